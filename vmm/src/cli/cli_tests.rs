use super::*;

fn parse(line: &str) -> Result<RunArgs, Instead> {
    let words = ["cafevm", "run"].into_iter().chain(line.split_whitespace());
    match super::parse(words.map(Into::into))?.command {
        Command::Run(args) => Ok(*args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_flags_have_the_defaults_they_show() {
    let (config, output, input) = parse("").unwrap().into_config();
    assert_eq!((config.memory, config.cpus, config.timeout), (128 << 20, 1, None));
    assert!(matches!((output, input), (Output::Stdout, Input::Stdin)));
    assert!(matches!(config.kernel, KernelSource::Bytes { .. }));
    let args = parse("--serial null --timeout 0.5 --memory 1G --cpus 2 -vv --disk a --disk b,ro");
    let args = args.unwrap();
    assert_eq!(args.verbose, 2);
    let (config, output, input) = args.into_config();
    assert_eq!((config.memory, config.cpus, config.disks.len()), (1 << 30, 2, 2));
    assert_eq!(config.timeout, Some(Duration::from_millis(500)));
    assert!(matches!((output, input), (Output::Null, Input::None)));
}

#[test]
fn the_kernel_may_stand_alone() {
    let kernel = |line| parse(line).unwrap().into_config().0.kernel;
    for line in ["a.elf --cpus 2", "--cpus 2 a.elf", "--kernel a.elf"] {
        let KernelSource::File(path) = kernel(line) else { panic!("{line}") };
        assert_eq!(path.as_os_str(), "a.elf");
    }
}

#[test]
fn a_trace_has_kinds_a_file_and_a_format() {
    assert!(parse("").unwrap().trace().is_none());
    let trace = parse("--trace bus,irq --symbols vmlinux").unwrap().trace().unwrap();
    let both = Kinds::named("bus").zip(Kinds::named("irq")).map(|(a, b)| a.and(b));
    assert_eq!((Some(trace.kinds), trace.file, trace.format), (both, None, Format::Text));
    let trace = parse("--trace-file t --trace-format perfetto").unwrap().trace().unwrap();
    assert_eq!((trace.kinds, trace.format), (Kinds::ALL, Format::Perfetto));
    for (line, says) in [
        ("--trace rings", "unknown kind 'rings' (do you mean 'ring'?); the kinds are bus, ring"),
        ("--trace bus,", "unknown kind ''"),
        ("--trace-format xml", "--trace-format 'xml': it is one of text, json, perfetto"),
    ] {
        match parse(line) {
            Err(Instead::Usage(text)) => assert!(text.contains(says), "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn stdio_and_null_are_words_in_any_case() {
    let output = |line| parse(line).unwrap().into_config().1;
    assert!(matches!(output("--serial STDIO"), Output::Stdout));
    assert!(matches!(output("--serial Null"), Output::Null));
    assert!(matches!(output("--serial ./null"), Output::File(_)));
}

#[test]
fn wrong_usage_is_one_line() {
    for line in [
        "--cpus 0",
        "--cpus -1",
        "--cpus many",
        "--timeout 0",
        "--timeout -1",
        "--timeout soon",
        "--timeout nan",
        "--timeout 1e30",
        "--memory 64",
        "--memory -1M",
        "--disk path=a,foo=1",
        "--kernle x",
        "--kernel",
        "a.elf extra",
        "a.elf --kernel b.elf",
        "--memory 1M --memory 2M",
    ] {
        match parse(line) {
            Err(Instead::Usage(text)) => assert_eq!(text.lines().count(), 1, "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn help_and_version_are_no_errors() {
    assert!(matches!(parse("--help"), Err(Instead::Help(_))));
    assert!(matches!(super::parse(["cafevm", "--version"].map(Into::into)), Err(Instead::Help(_))));
    assert!(matches!(super::parse(["cafevm"].map(Into::into)), Err(Instead::NoCommand(_))));
}
