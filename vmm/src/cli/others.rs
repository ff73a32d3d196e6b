//! `--rng`, `--input` and `--gpu`: the virtio devices that are not disks, in the order of the command line.

use cafevm_devices::virtio::gpu::{DISPLAY_MAX, DISPLAY_MIN, GpuOptions};
use cafevm_devices::virtio::input::InputKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::OtherDevice;
use crate::config::address::ListenAddress;
use crate::nearest::do_you_mean;
use crate::size;

const RNG: &str = "Add a virtio-rng device, which gives the guest random bytes";
const INPUT: &str = "\
Add a virtio-input device: keyboard, mouse or tablet; may be given several times. Devices other than disks are in the \
slots after the disks, in the order of their flags";
const GPU: &str = "\
Add a virtio-gpu device with a display of this size, 1024x768 by default; with max=SIZE, the host memory for the guest's \
pictures [default: 256M]. Give the kernel before this flag, or with --kernel";

/// The devices, in the order of their flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others(pub Vec<OtherDevice>);

impl Others {
    /// The devices of a machine with this display: a screen, a keyboard and a tablet, where none are given.
    pub(super) fn seen_by(self, display: Option<&ListenAddress>) -> Vec<OtherDevice> {
        let mut devices = self.0;
        if display.is_some() {
            let has = |kind: fn(&OtherDevice) -> bool| devices.iter().any(kind);
            let has_gpu = has(|device| matches!(device, OtherDevice::Gpu(_)));
            let has_input = has(|device| matches!(device, OtherDevice::Input(_)));
            if !has_gpu {
                devices.push(OtherDevice::Gpu(GpuOptions::default()));
            }
            if !has_input {
                let inputs = [InputKind::Keyboard, InputKind::Tablet];
                devices.extend(inputs.map(OtherDevice::Input));
            }
        }
        devices
    }
}

impl Args for Others {
    fn augment_args(command: Command) -> Command {
        command
            .arg(Arg::new("rng").long("rng").action(ArgAction::SetTrue).help(RNG))
            .arg(
                Arg::new("input")
                    .long("input")
                    .value_name("keyboard|mouse|tablet")
                    .action(ArgAction::Append)
                    .value_parser(input)
                    .help(INPUT),
            )
            .arg(
                Arg::new("gpu")
                    .long("gpu")
                    .value_name("WIDTHxHEIGHT[,max=SIZE]")
                    .num_args(0..=1)
                    .default_missing_value("1024x768")
                    .value_parser(gpu)
                    .help(GPU),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Others {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut all = Vec::new();
        if matches.value_source("rng") == Some(ValueSource::CommandLine) {
            all.extend(
                matches.indices_of("rng").into_iter().flatten().map(|n| (n, OtherDevice::Rng)),
            );
        }
        let inputs = matches.get_many("input").into_iter().flatten().copied();
        let places = matches.indices_of("input").into_iter().flatten();
        all.extend(places.zip(inputs.map(OtherDevice::Input)));
        let gpus = matches.get_many("gpu").into_iter().flatten().copied();
        let places = matches.indices_of("gpu").into_iter().flatten();
        all.extend(places.zip(gpus.map(OtherDevice::Gpu)));
        all.sort_by_key(|(place, _)| *place);
        Ok(Self(all.into_iter().map(|(_, device)| device).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The value of `--input`.
///
/// # Errors
///
/// If there is no such device; the text lists all.
pub fn input(text: &str) -> Result<InputKind, String> {
    let known = InputKind::ALL.map(|(name, _)| name);
    let kind = InputKind::ALL.into_iter().find(|(name, _)| *name == text);
    kind.map(|(_, kind)| kind)
        .ok_or_else(|| format!("it is keyboard, mouse or tablet{}", do_you_mean(text, known)))
}

/// The value of `--gpu`: `WIDTHxHEIGHT`, `max=SIZE` or both, with a comma.
///
/// # Errors
///
/// What is wrong with it.
pub fn gpu(text: &str) -> Result<GpuOptions, String> {
    let mut options = GpuOptions::default();
    for item in text.split(',') {
        if let Some(max) = item.strip_prefix("max=") {
            options.max_host_memory = size::parse(max).map_err(|error| format!("max: {error}"))?;
            continue;
        }
        let (width, height) = item
            .split_once('x')
            .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
            .ok_or_else(|| {
                format!(
                    "'{}' is neither a size, such as 1024x768, nor max=SIZE; for the kernel, give --kernel FILE",
                    item.escape_debug()
                )
            })?;
        let sides = DISPLAY_MIN..=DISPLAY_MAX;
        if !sides.contains(&width) || !sides.contains(&height) {
            return Err(format!("each side has {DISPLAY_MIN} to {DISPLAY_MAX} pixels"));
        }
        (options.width, options.height) = (width, height);
    }
    let needed = u64::from(options.width) * u64::from(options.height) * 4;
    if options.max_host_memory < needed {
        return Err(format!(
            "max={} is less than one picture of {}x{} needs: {needed} bytes",
            options.max_host_memory, options.width, options.height
        ));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        others: Others,
        #[arg(long)]
        kernel: Option<String>,
        positional: Option<String>,
    }

    fn parsed(flags: &str) -> Flags {
        Flags::try_parse_from(["cafevm"].into_iter().chain(flags.split_whitespace())).unwrap()
    }

    #[test]
    fn devices_have_the_order_of_their_flags() {
        let gpu = OtherDevice::Gpu(GpuOptions { width: 640, height: 480, ..GpuOptions::default() });
        let [keyboard, mouse] = [InputKind::Keyboard, InputKind::Mouse].map(OtherDevice::Input);
        assert_eq!(parsed("").others.0, []);
        let flags = "--input mouse --gpu 640x480 --rng --input keyboard --input=mouse --kernel k";
        let expected = [mouse, gpu, OtherDevice::Rng, keyboard, mouse];
        assert_eq!(parsed(flags).others.0, expected);
        let flags = parsed("kernel --rng --gpu");
        let gpu = OtherDevice::Gpu(GpuOptions::default());
        assert_eq!(flags.others.0, [OtherDevice::Rng, gpu]);
        assert_eq!((flags.kernel, flags.positional.as_deref()), (None, Some("kernel")));
    }

    #[test]
    fn a_viewer_has_a_screen_a_keyboard_and_a_tablet() {
        let address = ListenAddress::parse("5900").unwrap();
        let seen = |flags| parsed(flags).others.seen_by(Some(&address));
        let gpu = OtherDevice::Gpu(GpuOptions::default());
        let [keyboard, mouse, tablet] =
            [InputKind::Keyboard, InputKind::Mouse, InputKind::Tablet].map(OtherDevice::Input);
        assert_eq!(seen(""), [gpu, keyboard, tablet]);
        assert_eq!(seen("--input mouse --rng"), [mouse, OtherDevice::Rng, gpu]);
        assert_eq!(seen("--rng --gpu"), [OtherDevice::Rng, gpu, keyboard, tablet]);
        assert_eq!(parsed("").others.seen_by(None), []);
    }

    #[test]
    fn a_display_has_a_size_and_a_limit() {
        let max_host_memory = 64 << 20;
        let small = GpuOptions { max_host_memory, ..GpuOptions::default() };
        assert_eq!(gpu("max=64M"), Ok(small));
        let options = GpuOptions { width: 800, height: 600, max_host_memory };
        assert_eq!(gpu("800x600,max=64M"), Ok(options));
        for (text, says) in [
            ("kernel.elf", "give --kernel FILE"),
            ("", "neither a size"),
            ("800", "neither a size"),
            ("800x", "neither a size"),
            ("8x600", "each side has 16 to 4095"),
            ("800x4096", "each side has 16 to 4095"),
            ("800x600,max=lots", "max: "),
            ("800x600,max=1M", "max=1048576 is less than one picture of 800x600 needs: 1920000"),
        ] {
            let error = gpu(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(input("mice").unwrap_err().starts_with("it is keyboard, mouse or tablet"));
    }
}
