//! Line charts as SVG text. The card brings its own background, light or dark, in the colours of `bench/harness/drawing.py`.

use std::fmt::Write as _;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 400.0;
/// Where the lines are: left, top, right, bottom.
const AREA: [f64; 4] = [76.0, 100.0, 880.0, 340.0];

const STYLE: &str = r#"
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #24292f; }
  .title { font-size: 18px; font-weight: 600; } .note { fill: #59636e; font-size: 12px; } .end { text-anchor: end; } .middle { text-anchor: middle; }
  .card { fill: #ffffff; stroke: #d1d9e0; } .grid { stroke: #d1d9e0; } path { fill: none; stroke-width: 2; }
  .s0 { stroke: #0a7d6c; } .s1 { stroke: #3f7fd1; } .s2 { stroke: #d9822b; } .s3 { stroke: #59636e; stroke-dasharray: 5 4; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note { fill: #9198a1; } .card { fill: #0d1117; stroke: #3d444d; } .grid { stroke: #3d444d; }
    .s0 { stroke: #2fc7ae; } .s1 { stroke: #5b9bf0; } .s3 { stroke: #9198a1; }
  }"#;

/// A line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// What an axis shows: the places of its marks, in order, with their names.
pub struct Axis {
    pub title: &'static str,
    pub marks: Vec<(f64, String)>,
    pub logarithmic: bool,
}

impl Axis {
    /// Where a value is, from 0 at the first mark to 1 at the last.
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.log10() } else { value };
        let (first, last) = (scale(self.marks[0].0), scale(self.marks[self.marks.len() - 1].0));
        ((scale(value) - first) / (last - first)).clamp(0.0, 1.0)
    }
}

/// A whole SVG file.
pub fn chart(title: &str, note: &str, across: &Axis, up: &Axis, lines: &[Line]) -> String {
    let [left, top, right, bottom] = AREA;
    let x = |value| left + across.place(value) * (right - left);
    let y = |value| bottom - up.place(value) * (bottom - top);
    let mut svg = head(title, note);
    for (value, name) in &across.marks {
        text(&mut svg, x(*value), bottom + 20.0, "note middle", name);
    }
    for (value, name) in &up.marks {
        let height = y(*value);
        let _ = writeln!(
            svg,
            r#"<line class="grid" x1="{left}" y1="{height:.1}" x2="{right}" y2="{height:.1}"/>"#
        );
        text(&mut svg, left - 8.0, height + 4.0, "note end", name);
    }
    text(&mut svg, right, bottom + 42.0, "note end", across.title);
    text(&mut svg, 28.0, top - 16.0, "note", up.title);
    for (number, line) in lines.iter().enumerate() {
        let points: Vec<String> =
            line.points.iter().map(|(a, b)| format!("{:.1} {:.1}", x(*a), y(*b))).collect();
        let _ = writeln!(svg, r#"<path class="s{number}" d="M{}"/>"#, points.join("L"));
        let start = left + 200.0 * number as f64;
        let _ = writeln!(svg, r#"<path class="s{number}" d="M{start} {0}h24"/>"#, bottom + 38.0);
        text(&mut svg, start + 32.0, bottom + 42.0, "", &line.name);
    }
    svg + "</svg>\n"
}

fn head(title: &str, note: &str) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">
<title>{title}</title>
<style>{STYLE}
</style>
<rect class="card" x="0.5" y="0.5" width="{}" height="{}" rx="8"/>
"#,
        WIDTH - 1.0,
        HEIGHT - 1.0
    );
    text(&mut svg, 28.0, 34.0, "title", title);
    text(&mut svg, 28.0, 55.0, "note", note);
    svg
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, content: &str) {
    let _ = writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{content}</text>"#);
}
