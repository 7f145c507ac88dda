//! `compare.html`: the table, and a chart of accuracy against bytes for each partition and teacher.

use plotters::prelude::*;

use crate::compare::table::{Group, Line, Table, caption, remarks};
use crate::compare::{Results, Row};
use crate::report::{DrawError, OTHER, STYLE, escape};
use crate::summary::size;

/// The whole page.
///
/// # Errors
/// A chart that cannot be drawn.
pub(crate) fn html(results: &Results) -> Result<String, DrawError> {
    let table = Table::of(results);
    let [what, accuracy, bytes] = caption(results).map(|text| escape(&text));
    let cells = |tag: &str, cells: &[String]| {
        let cells = cells
            .iter()
            .map(|text| format!("<{tag}>{}</{tag}>", escape(text)));
        cells.collect::<String>()
    };
    let head = cells("th", &table.head);
    let mut sections = String::new();
    let mut rest = results.rows.as_slice();
    for Group { name, lines } in &table.groups {
        let (rows, after) = rest.split_at(lines.len());
        rest = after;
        sections += &format!("<h2>{}</h2>\n<table><tr>{head}</tr>\n", escape(name));
        for Line { best, cells: line } in lines {
            let class = if *best { " class=\"best\"" } else { "" };
            sections += &format!("<tr{class}>{}</tr>\n", cells("td", line));
        }
        sections += &format!("</table>\n{}\n", chart(rows)?);
    }
    for remark in remarks(results) {
        sections += &format!("<p>{}</p>\n", escape(&remark));
    }
    Ok(format!(
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fedistill: {what}</title>
<style>
{STYLE}
.best {{ font-weight: bold }}
</style></head><body>
<h1>fedistill: methods compared</h1>
<p>{what} {accuracy} {bytes} In bold, the best.</p>
<p>A point a method: its students' accuracy over the bytes of a client, both ways, in all rounds. A grey line joins those that no other method
beats in both.</p>
{sections}</body></html>
"#
    ))
}

/// Told apart by most people.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x1f, 0x4e, 0x79),
    RGBColor(0xc0, 0x50, 0x2d),
    RGBColor(0x2e, 0x8b, 0x57),
    RGBColor(0x8e, 0x44, 0xad),
    RGBColor(0xd4, 0xa0, 0x17),
    RGBColor(0x17, 0xa2, 0xb8),
    RGBColor(0xd6, 0x33, 0x84),
    RGBColor(0x5d, 0x6d, 0x7e),
];

/// A method in a chart.
struct Point<'a> {
    name: &'a str,
    bytes: f64,
    accuracy: f64,
    std: f64,
    colour: RGBColor,
}

fn points(rows: &[Row]) -> Vec<Point<'_>> {
    let points = rows.iter().zip(COLOURS.iter().cycle());
    let points = points.filter_map(|(row, colour)| {
        let students = row.students()?;
        Some(Point {
            name: &row.method,
            // What sends nothing is at the left end of a scale that has no zero.
            bytes: (row.up + row.down).max(1.0),
            accuracy: students.mean,
            std: students.std.unwrap_or(0.0),
            colour: *colour,
        })
    });
    points.collect()
}

/// Those points, by bytes, beside which no other has at least their accuracy for fewer bytes.
fn pareto(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut front: Vec<(f64, f64)> = Vec::new();
    for point in sorted {
        if front.last().is_none_or(|last| point.1 > last.1) {
            front.push(point);
        }
    }
    front
}

/// The powers of ten around these, where a logarithmic axis has its marks.
fn decades(fewest: f64, most: f64) -> std::ops::Range<f64> {
    let low = (fewest * 0.9).log10().floor() as i32;
    let high = (most * 1.1).log10().ceil() as i32;
    10f64.powi(low)..10f64.powi(high)
}

fn chart(rows: &[Row]) -> Result<String, DrawError> {
    let points = points(rows);
    if points.is_empty() {
        return Ok(String::new());
    }
    let over = |of: fn(&Point<'_>) -> (f64, f64)| {
        let all = points.iter().map(of);
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), (low, high)| {
            (l.min(low), m.max(high))
        })
    };
    let (fewest, most_bytes) = over(|point| (point.bytes, point.bytes));
    let (least, most) = over(|p| (p.accuracy - p.std, p.accuracy + p.std));
    let (least, most) = ((least - 0.02).max(0.0), (most + 0.02).min(1.0));
    let tall = (40 + 22 * points.len() as u32).max(380);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, tall)).into_drawing_area();
        let (left, right) = area.split_horizontally(660);
        let mut chart = ChartBuilder::on(&left)
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(decades(fewest, most_bytes).log_scale(), least..most)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("bytes of a client")
            .y_desc("students' accuracy")
            .x_label_formatter(&|x| size(*x))
            .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
            .draw()?;
        let all: Vec<(f64, f64)> = points.iter().map(|p| (p.bytes, p.accuracy)).collect();
        chart.draw_series(LineSeries::new(pareto(&all), OTHER.stroke_width(2)))?;
        for point in &points {
            let Point {
                bytes,
                accuracy,
                std,
                colour,
                ..
            } = *point;
            if std > 0.0 {
                let (low, high) = (accuracy - std, accuracy + std);
                let bar = [(bytes, low), (bytes, high)];
                let line = colour.stroke_width(1);
                chart.draw_series([PathElement::new(bar, line)])?;
                chart.draw_series([low, high].map(|end| {
                    EmptyElement::at((bytes, end)) + PathElement::new([(-4, 0), (4, 0)], line)
                }))?;
            }
            chart.draw_series([Circle::new((bytes, accuracy), 5, colour.filled())])?;
        }
        for (place, point) in points.iter().enumerate() {
            let y = 20 + 22 * place as i32;
            right.draw(&Circle::new((14, y), 5, point.colour.filled()))?;
            let style = ("sans-serif", 14).into_font();
            let name = format!("{}  {:.1} %", point.name, 100.0 * point.accuracy);
            right.draw(&Text::new(name, (28, y - 7), style))?;
        }
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_is_what_nothing_beats_in_both() {
        let points = [(10.0, 0.5), (1.0, 0.2), (5.0, 0.6), (5.0, 0.4), (20.0, 0.6)];
        assert_eq!(pareto(&points), [(1.0, 0.2), (5.0, 0.6)]);
        assert_eq!(pareto(&[]), []);
        assert_eq!(decades(2.0e6, 3.0e6), 1e6..1e7);
        assert_eq!(decades(1.0e3, 1.0e6), 1e2..1e7);
    }
}
