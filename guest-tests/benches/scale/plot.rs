//! A plot of several panels as SVG.

use std::fmt::{self, Write as _};

use crate::median;

/// What was measured at one place of an axis.
pub(crate) struct Point {
    pub(crate) name: String,
    least: f64,
    /// The median.
    pub(crate) middle: f64,
    most: f64,
}

impl Point {
    /// Of the values of all rounds.
    pub(crate) fn of(name: &str, values: &[f64]) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        Self { name: name.to_owned(), least, middle: median(values), most }
    }
}

/// A panel of the plot.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// What the points differ in.
    pub(crate) axis: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) points: Vec<Point>,
}

const COLUMNS: usize = 3;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 240.0;
/// The axes of a panel, from its top left corner.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 306.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 190.0;

/// The plot.
///
/// # Errors
///
/// If there is no memory.
pub(crate) fn svg(panels: &[Panel]) -> Result<String, fmt::Error> {
    let mut svg = String::new();
    let (columns, rows) = (COLUMNS.min(panels.len()), panels.len().div_ceil(COLUMNS));
    let (width, height) = (columns as f64 * WIDTH, rows as f64 * HEIGHT);
    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11" fill="#222">
<title>What a request costs as a machine grows</title>
<rect width="{width}" height="{height}" fill="#fff"/>"##
    )?;
    for (n, panel) in panels.iter().enumerate() {
        let (x, y) = ((n % COLUMNS) as f64 * WIDTH, (n / COLUMNS) as f64 * HEIGHT);
        writeln!(svg, r#"<g transform="translate({x} {y})">"#)?;
        draw(&mut svg, panel)?;
        writeln!(svg, "</g>")?;
    }
    writeln!(svg, "</svg>")?;
    Ok(svg)
}

fn draw(svg: &mut String, panel: &Panel) -> fmt::Result {
    let Panel { title, axis, unit, points } = panel;
    let highest = points.iter().map(|point| point.most).fold(0.0, f64::max);
    let step = step(highest);
    let top = (highest / step).ceil().max(1.0) * step;
    let y = |value: f64| BOTTOM - value / top * (BOTTOM - TOP);
    let x = |n: usize| LEFT + (n as f64 + 0.5) * (RIGHT - LEFT) / points.len() as f64;
    writeln!(
        svg,
        r#"<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{title}</text>
<text x="14" y="{}" text-anchor="middle" transform="rotate(-90 14 {})">{unit}</text>
<text x="{}" y="{}" text-anchor="middle">{axis}</text>"#,
        (TOP + BOTTOM) / 2.0,
        (TOP + BOTTOM) / 2.0,
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 34.0
    )?;
    let mut tick = 0.0;
    while tick <= top + step / 2.0 {
        let at = y(tick);
        writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/>
<text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
            LEFT - 6.0,
            at + 4.0,
            (tick * 1000.0).round() / 1000.0
        )?;
        tick += step;
    }
    writeln!(svg, r##"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#222"/>"##)?;
    let line: Vec<_> =
        points.iter().enumerate().map(|(n, p)| format!("{:.1},{:.1}", x(n), y(p.middle))).collect();
    writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="#1f6fb4" stroke-width="1.5"/>"##,
        line.join(" ")
    )?;
    for (n, Point { name, least, middle, most }) in points.iter().enumerate() {
        let at = x(n);
        writeln!(
            svg,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{:.1}" y2="{:.1}" stroke="#1f6fb4" stroke-opacity="0.5" stroke-width="3"/>
<circle cx="{at:.1}" cy="{:.1}" r="3" fill="#1f6fb4"/>
<text x="{at:.1}" y="{}" text-anchor="middle">{name}</text>"##,
            y(*least),
            y(*most),
            y(*middle),
            BOTTOM + 16.0
        )?;
    }
    Ok(())
}

/// The distance of ticks: 1, 2 or 5 times a power of ten, so that there are at most 6.
fn step(highest: f64) -> f64 {
    let rough = (highest / 5.0).max(1e-9);
    let power = 10.0_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= rough).unwrap_or(rough)
}
