//! How is a measurement drawn? As an SVG: bars for rates side by side, lines for what follows from a load.
//!
//! The picture has its own colours for light and dark surroundings and needs no script and no font of its own.

use std::fmt::Write;

/// Pixels of the whole picture, and of the space around what is drawn.
const WIDTH: f64 = 720.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
/// Height of a bar and of the plane that lines are drawn in.
const BAR: f64 = 16.0;
const PLANE: f64 = 240.0;
/// Width of the column with the names of bars.
const NAMES: f64 = 170.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.t{font-size:16px;font-weight:600}.n{fill:#666}\
    .g{stroke:#ddd}.s0{fill:#1f6feb;stroke:#1f6feb}.s1{fill:#d4770b;stroke:#d4770b}.l{fill:none;stroke-width:2}\
    @media(prefers-color-scheme:dark){svg{background:#161b22}text{fill:#ddd}.n{fill:#999}.g{stroke:#333}\
    .s0{fill:#58a6ff;stroke:#58a6ff}.s1{fill:#e3963e;stroke:#e3963e}}";

/// Bars that belong together, such as ours and a peer's.
pub(crate) struct Group {
    pub(crate) name: String,
    /// A value for each of the series, where there is one.
    pub(crate) values: Vec<Option<f64>>,
}

/// A line.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws bars from left to right, in groups; each says its value.
pub(crate) fn bars(title: &str, unit: &str, series: &[String], groups: &[Group]) -> String {
    let largest =
        groups.iter().flat_map(|group| group.values.iter().flatten()).fold(0.0, |a: f64, &b| a.max(b));
    let scale = if largest > 0.0 { (WIDTH - NAMES - RIGHT - 70.0) / largest } else { 0.0 };
    let step = BAR * series.len().max(1) as f64 + 14.0;
    let height = TOP + step * groups.len() as f64 + 10.0;
    let mut svg = begin(title, height);
    legend(&mut svg, unit, series);
    for (n, group) in groups.iter().enumerate() {
        let top = TOP + step * n as f64;
        let middle = top + BAR * series.len().max(1) as f64 / 2.0 + 4.0;
        text(&mut svg, (NAMES - 10.0, middle), "", "end", &group.name);
        for (k, value) in group.values.iter().enumerate() {
            let Some(value) = value else { continue };
            let y = top + BAR * k as f64;
            let width = value * scale;
            let _ = write!(
                svg,
                "<rect class=\"s{k}\" x=\"{NAMES}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\"/>",
                BAR - 2.0
            );
            text(&mut svg, (NAMES + width + 6.0, y + 12.0), "n", "start", &short(*value));
        }
    }
    svg + "</svg>\n"
}

/// Draws lines over a horizontal axis whose places are the values that were measured, equally far apart.
pub(crate) fn lines(title: &str, axes: (&str, &str), series: &[Series]) -> String {
    let mut places: Vec<f64> = series.iter().flat_map(|s| s.points.iter().map(|point| point.0)).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let largest = series.iter().flat_map(|s| s.points.iter().map(|point| point.1)).fold(0.0, f64::max);
    let top = ceiling(largest);
    let width = WIDTH - LEFT - RIGHT;
    let x = |at: f64| {
        let place = places.iter().position(|&place| place == at).unwrap_or(0) as f64;
        LEFT + width * (place + 0.5) / places.len().max(1) as f64
    };
    let y = |value: f64| TOP + PLANE * (1.0 - value / top);
    let mut svg = begin(title, TOP + PLANE + 46.0);
    legend(&mut svg, axes.1, &series.iter().map(|s| s.name.clone()).collect::<Vec<_>>());
    for quarter in 0..=4 {
        let value = top * f64::from(quarter) / 4.0;
        let at = y(value);
        let _ = write!(svg, "<path class=\"g\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        text(&mut svg, (LEFT - 8.0, at + 4.0), "n", "end", &short(value));
    }
    for &place in &places {
        text(&mut svg, (x(place), TOP + PLANE + 18.0), "n", "middle", &short(place));
    }
    text(&mut svg, (LEFT + width / 2.0, TOP + PLANE + 38.0), "n", "middle", axes.0);
    for (k, line) in series.iter().enumerate() {
        let mut path = String::new();
        for (n, &(at, value)) in line.points.iter().enumerate() {
            let command = if n == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{command}{:.1} {:.1}", x(at), y(value));
            let _ =
                write!(svg, "<circle class=\"s{k}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x(at), y(value));
        }
        let _ = write!(svg, "<path class=\"s{k} l\" style=\"fill:none\" d=\"{path}\"/>");
    }
    svg + "</svg>\n"
}

fn begin(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\"><style>{STYLE}</style><title>{}</title>",
        escape(title)
    );
    text(&mut svg, (16.0, 26.0), "t", "start", title);
    svg
}

/// The unit, and a name for each colour.
fn legend(svg: &mut String, unit: &str, series: &[String]) {
    text(svg, (16.0, 48.0), "n", "start", unit);
    let mut at = 16.0 + 8.0 * unit.chars().count() as f64 + 24.0;
    for (k, name) in series.iter().enumerate() {
        let _ = write!(svg, "<rect class=\"s{k}\" x=\"{at}\" y=\"38\" width=\"10\" height=\"10\"/>");
        text(svg, (at + 16.0, 48.0), "", "start", name);
        at += 8.0 * name.chars().count() as f64 + 40.0;
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, text: &str) {
    let text = escape(text);
    let _ = write!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below the value.
fn ceiling(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|n| n * power)
        .find(|&top| top >= value)
        .unwrap_or(10.0 * power)
}

/// A number in three or four digits.
fn short(value: f64) -> String {
    match value {
        100_000.0.. => format!("{:.0}k", value / 1000.0),
        10_000.0.. => format!("{:.1}k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_picture() {
        let group = Group { name: "<script>&".to_owned(), values: vec![Some(5.0), None] };
        let svg = bars("a < b", "tokens/s", &["ours".to_owned(), "peer".to_owned()], &[group]);
        assert!(
            svg.contains("&lt;script&gt;&amp;") && svg.contains("a &lt; b") && !svg.contains("<script"),
            "{svg}"
        );
        assert_eq!(svg.matches("<rect class=\"s0\" x=\"170\"").count(), 1);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_line_has_a_point_for_each_value() {
        let points = vec![(1.0, 10.0), (4.0, 35.0), (16.0, 70.0)];
        let svg = lines("x", ("clients", "tokens/s"), &[Series { name: "ours".to_owned(), points }]);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains(">100<"), "{svg}");
    }

    #[test]
    fn numbers_are_short_and_axes_end_round() {
        assert_eq!(
            [0.0, 0.25, 7.5, 10.0, 12.34, 845.2, 12_345.0, 369_000.0].map(short),
            ["0", "0.25", "7.5", "10", "12.3", "845", "12.3k", "369k"]
        );
        assert_eq!([0.0, 0.7, 3.0, 26.0, 70.0, 100.0].map(ceiling), [1.0, 1.0, 5.0, 50.0, 100.0, 100.0]);
    }
}
