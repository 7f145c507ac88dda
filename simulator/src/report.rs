//! `report.html`: one file without a script, a font or a link.

use plotters::prelude::*;

use crate::decided::decisions;
use crate::metrics::{Measure, OverClients};
use crate::summary::{Line, PersonalLine, lines, measured_on, personal_lines, size, title};
use crate::{Experiment, Summary};

/// What drawing reports; it can only be a bug.
pub(crate) type DrawError = Box<dyn std::error::Error + Send + Sync>;

const STUDENT: RGBColor = RGBColor(0x9c, 0xb4, 0xcc);
const MEAN: RGBColor = RGBColor(0x1f, 0x4e, 0x79);
const TEACHER: RGBColor = RGBColor(0xc0, 0x50, 0x2d);
pub(crate) const OTHER: RGBColor = RGBColor(0x8a, 0x8a, 0x8a);

/// How our pages look.
pub(crate) const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto }";

/// The whole page.
///
/// # Errors
/// A chart that cannot be drawn.
pub(crate) fn html(experiment: &Experiment) -> Result<String, DrawError> {
    let summary = Summary::from(experiment);
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let mut rows = String::new();
    for Line { who, mean, range } in lines(experiment) {
        let (worst, best) = range.map_or_else(Default::default, |(l, m)| (percent(l), percent(m)));
        let (who, mean) = (escape(&who), percent(mean));
        rows += &format!("<tr><td>{who}</td><td>{mean}</td><td>{worst}</td><td>{best}</td></tr>\n");
    }
    let mut personal = String::new();
    for PersonalLine { who, on_own } in personal_lines(experiment) {
        let (mean, worst) = (on_own.mean.share(), on_own.worst_decile.share());
        let cells = [
            escape(&who),
            percent(mean),
            percent(on_own.std),
            percent(worst),
        ];
        personal += &format!("<tr><td>{}</td></tr>\n", cells.join("</td><td>"));
    }
    let bytes = &summary.bytes;
    let total = bytes.quic_total.map_or_else(String::new, |total| {
        format!(
            "<p>All QUIC traffic, with TLS, acknowledgements and retransmissions: {}.</p>",
            size(total as f64)
        )
    });
    Ok(format!(
        r#"<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>fedistill: {title}</title>
<style>
{STYLE}
</style></head><body>
<h1>fedistill</h1>
<p>{title}</p>
<h2>Accuracy</h2>
<table><tr><th>on {samples} test samples</th><th>mean</th><th>worst</th><th>best</th></tr>
{rows}</table>
{accuracy}
<p>A thin line a client, after it has distilled what came down; thick, their mean; red, the server's model.</p>
<h2>Personal accuracy</h2>
<table><tr><th>each client's model on its own</th><th>mean</th><th>standard deviation</th><th>worst tenth</th></tr>
{personal}</table>
<p>Measured on {measured_on}. Another measure than the one above: what a model knows, and what it is worth to its client.</p>
<h2>Bytes</h2>
<table><tr><th>per client and round</th><th>up</th><th>down</th></tr>
{ledger}</table>
{bytes_chart}
{transfer}{total}
<h2>Who has which labels</h2>
{heat}
<p>Private samples of each client, by class: the darker, the more.</p>
{decided}<p>Seed {seed}, digest of the final students <code>{digest}</code>, {seconds:.1} s.</p>
</body></html>
"#,
        title = escape(&title(&experiment.config)),
        samples = experiment.federated.test_samples,
        measured_on = measured_on(&experiment.config, &[experiment.config.partition]),
        accuracy = accuracy(experiment)?,
        ledger = ledger(&summary),
        transfer = transfer(&summary),
        bytes_chart = traffic(experiment, bytes.fedavg_per_client_round)?,
        heat = heat(experiment)?,
        decided = decided(experiment),
        seed = summary.seed,
        digest = summary.digest,
        seconds = summary.seconds.total,
    ))
}

/// What the transfer set adds, where clients need it.
fn transfer(summary: &Summary) -> String {
    match summary.ledger.down.transfer_set > 0.0 {
        true => format!(
            "<p>The first round's download holds the transfer set, {}, which a client fetches once.</p>\n",
            size(summary.bytes.transfer_set as f64)
        ),
        false => String::new(),
    }
}

/// What the method has decided by itself, as a list; nothing where it decides nothing.
fn decided(experiment: &Experiment) -> String {
    let lines = decisions(&experiment.federated.rounds);
    let items: String = lines
        .iter()
        .map(|line| format!("<li>{}</li>\n", escape(line)))
        .collect();
    match items.is_empty() {
        true => String::new(),
        false => {
            let method = escape(&experiment.config.method);
            format!("<h2>What {method} has decided</h2>\n<ul>{items}</ul>\n")
        }
    }
}

/// The rows of the table of bytes: what is for what, from what it would be to what it costs.
fn ledger(summary: &Summary) -> String {
    let (up, down) = (&summary.ledger.up, &summary.ledger.down);
    let fedavg = summary.bytes.fedavg_per_client_round;
    let mut rows = vec![
        (
            "answers, whole and uncoded (4 bytes a value)",
            up.raw,
            down.raw,
        ),
        ("answers, as they crossed", up.packed, down.packed),
        (
            "a round's share of the transfer set",
            up.transfer_set,
            down.transfer_set,
        ),
        ("messages, requests and headers", up.framing, down.framing),
        (
            "all on streams",
            summary.bytes.up_per_client_round,
            summary.bytes.down_per_client_round,
        ),
    ];
    if let (Some(up), Some(down)) = (up.quic, down.quic) {
        rows.push(("QUIC, with TLS and acknowledgements", up, down));
    }
    rows.push(("FedAvg of the same models", fedavg, fedavg));
    let row = |(what, up, down)| {
        let (up, down) = (size(up), size(down));
        format!("<tr><td>{what}</td><td>{up}</td><td>{down}</td></tr>\n")
    };
    rows.into_iter().map(row).collect()
}

/// Text as HTML has it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn accuracy(experiment: &Experiment) -> Result<String, DrawError> {
    let rounds = &experiment.federated.rounds;
    // Where not all clients take part in a round, a line of each would be no line.
    let all_took_part = rounds.iter().all(|row| row.clients.is_none());
    let clients = match all_took_part {
        true => rounds.first().map_or(0, |row| row.clients_on_test.len()),
        false => 0,
    };
    let all = rounds.iter().flat_map(|row| {
        let clients = row.clients_on_test.iter().map(|client| client.share());
        clients.chain(row.server_on_test.map(Measure::share))
    });
    let (least, most) = all
        .filter(|value| value.is_finite())
        .fold((1.0f64, 0.0f64), |(l, m), v| (l.min(v), m.max(v)));
    let (least, most) = ((least - 0.02).max(0.0), (most + 0.02).min(1.0));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 360)).into_drawing_area();
        let last = rounds.len().max(2) as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(1.0..last, least..most)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("round")
            .y_desc("accuracy")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
            .draw()?;
        let line = |values: Vec<(u32, f64)>| {
            let finite = values.into_iter().filter(|(_, value)| value.is_finite());
            finite
                .map(|(round, value)| (f64::from(round) + 1.0, value))
                .collect::<Vec<_>>()
        };
        for client in 0..clients {
            let share = |row: &crate::RoundRow| row.clients_on_test[client].share();
            let of = rounds.iter().map(|row| (row.round, share(row)));
            chart.draw_series(LineSeries::new(line(of.collect()), STUDENT))?;
        }
        let mean = rounds.iter().filter_map(|row| {
            let clients = OverClients::of(row.clients_on_test.iter().copied())?;
            Some((row.round, clients.mean.share()))
        });
        chart.draw_series(LineSeries::new(line(mean.collect()), MEAN.stroke_width(3)))?;
        let teacher = rounds
            .iter()
            .filter_map(|row| Some((row.round, row.server_on_test?.share())));
        chart.draw_series(LineSeries::new(
            line(teacher.collect()),
            TEACHER.stroke_width(3),
        ))?;
        area.present()?;
    }
    Ok(svg)
}

fn traffic(experiment: &Experiment, fedavg: f64) -> Result<String, DrawError> {
    let rounds = &experiment.federated.rounds;
    let mean = |bytes: &[u64]| bytes.iter().sum::<u64>() as f64 / bytes.len().max(1) as f64;
    let series = |of: fn(&crate::RoundRow) -> &Vec<u64>| -> Vec<(f64, f64)> {
        let points = rounds.iter();
        points
            .map(|row| (f64::from(row.round) + 1.0, mean(of(row)).max(1.0)))
            .collect()
    };
    let (up, down) = (series(|row| &row.up), series(|row| &row.down));
    let most = up.iter().chain(&down).map(|p| p.1).fold(fedavg, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 300)).into_drawing_area();
        let last = rounds.len().max(2) as f64;
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(70)
            .build_cartesian_2d(1.0..last, (10.0..most * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("round")
            .y_desc("bytes of a client")
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| size(*y))
            .draw()?;
        let flat = vec![(1.0, fedavg), (last, fedavg)];
        for (name, points, colour) in [
            ("up", up, MEAN),
            ("down", down, TEACHER),
            ("FedAvg, each way", flat, OTHER),
        ] {
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(OTHER)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

fn heat(experiment: &Experiment) -> Result<String, DrawError> {
    let Experiment {
        labels, classes, ..
    } = experiment;
    let most = labels.iter().flatten().copied().max().unwrap_or(1).max(1) as f64;
    let (width, height) = (classes.len() as i32, labels.len() as i32);
    let shown = labels.len() <= 40 && classes.len() <= 40;
    let mut svg = String::new();
    {
        let tall = (labels.len() as u32 * if shown { 24 } else { 4 }).clamp(100, 1600);
        let area = SVGBackend::with_string(&mut svg, (900, tall + 60)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(56)
            .build_cartesian_2d(
                (0..width - 1).into_segmented(),
                (0..height - 1).into_segmented(),
            )?;
        let class = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(at) => classes.get(*at as usize).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        let client = |at: &SegmentValue<i32>| match at {
            SegmentValue::CenterOf(at) => at.to_string(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(classes.len().min(40))
            .y_labels(labels.len().min(40))
            .x_desc("class")
            .y_desc("client")
            .x_label_formatter(&class)
            .y_label_formatter(&client)
            .draw()?;
        let cells = labels.iter().enumerate().flat_map(|(client, counts)| {
            let cell = move |(class, &count): (usize, &usize)| (client as i32, class as i32, count);
            counts.iter().enumerate().map(cell)
        });
        let cells: Vec<(i32, i32, usize)> = cells.collect();
        let edge = |at: i32, end: i32| match at < end {
            true => SegmentValue::Exact(at),
            false => SegmentValue::Last,
        };
        chart.draw_series(cells.iter().map(|&(client, class, count)| {
            let shade = MEAN.mix((count as f64 / most).sqrt());
            let corners = [
                (edge(class, width), edge(client, height)),
                (edge(class + 1, width), edge(client + 1, height)),
            ];
            Rectangle::new(corners, shade.filled())
        }))?;
        if shown {
            let centre = SegmentValue::CenterOf;
            let filled = cells.iter().filter(|(.., count)| *count > 0);
            chart.draw_series(filled.map(|&(client, class, count)| {
                let ink = if (count as f64) > most / 4.0 {
                    WHITE
                } else {
                    BLACK
                };
                let place = plotters::style::text_anchor::Pos::new(
                    plotters::style::text_anchor::HPos::Center,
                    plotters::style::text_anchor::VPos::Center,
                );
                let style = ("sans-serif", 12).into_font().color(&ink).pos(place);
                Text::new(count.to_string(), (centre(class), centre(client)), style)
            }))?;
        }
        area.present()?;
    }
    Ok(svg)
}
