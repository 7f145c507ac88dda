//! The table of a comparison, for terminals and for documents.

use std::fmt::Write as _;

use crate::compare::results::{ACCURACIES, STUDENTS};
use crate::compare::{Results, Row, Spread, glance};
use crate::summary::{measured_on, size};

/// A table's cells as text: a head, and rows under the partition and teacher that they are of.
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) groups: Vec<Group>,
}

/// Rows of one partition and teacher.
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

/// A row: a cell for each of the head.
pub(crate) struct Line {
    pub(crate) best: bool,
    pub(crate) cells: Vec<String>,
}

fn percent(Spread { mean, std }: Spread) -> String {
    let std = std.map_or_else(String::new, |std| format!(" ± {:.1}", 100.0 * std));
    format!("{:.1}{std} %", 100.0 * mean)
}

/// How many times, with two digits that count.
fn times(ratio: f64) -> String {
    let places = (1.0 - ratio.max(1e-6).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{ratio:.places$}")
}

impl Table {
    pub(crate) fn of(results: &Results) -> Self {
        let rows = &results.rows;
        let columns: Vec<&str> = ACCURACIES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| rows.iter().any(|row| row.accuracy.contains_key(name)))
            .collect();
        let mut head = vec!["method".to_owned()];
        head.extend(columns.iter().map(ToString::to_string));
        head.extend(["up", "down", "of FedAvg's bytes"].map(str::to_owned));
        let several = results.comparison.grid.teachers.len() > 1;
        let mut groups: Vec<Group> = Vec::new();
        let mut before: Option<&Row> = None;
        for row in rows {
            if !before.is_some_and(|before| before.is_beside(row)) {
                let name = match several {
                    true => format!("{}, teacher {}", row.partition, row.teacher),
                    false => row.partition.to_string(),
                };
                let lines = Vec::new();
                groups.push(Group { name, lines });
            }
            before = Some(row);
            if let Some(group) = groups.last_mut() {
                group.lines.push(Line {
                    best: row.best,
                    cells: line(row, &columns),
                });
            }
        }
        Self { head, groups }
    }
}

fn line(row: &Row, columns: &[&str]) -> Vec<String> {
    let seeds = row.done + row.failed.len();
    let accuracy = |name: &&str| match row.accuracy.get(name) {
        _ if *name == STUDENTS && row.done == 0 => "failed".to_owned(),
        Some(spread) if *name == STUDENTS && !row.failed.is_empty() => {
            format!("{} ({} of {seeds} seeds)", percent(*spread), row.done)
        }
        Some(spread) => percent(*spread),
        None => "–".to_owned(),
    };
    let mut line = vec![row.method.clone()];
    line.extend(columns.iter().map(accuracy));
    line.extend(match row.done {
        0 => ["–"; 3].map(str::to_owned),
        _ => [size(row.up), size(row.down), times(row.of_fedavg)],
    });
    line
}

/// What was compared, what accuracies are and what bytes are: a sentence each.
pub(crate) fn caption(results: &Results) -> [String; 3] {
    let config = &results.comparison.config;
    let models: Vec<String> = config.models.iter().map(ToString::to_string).collect();
    let asked = config
        .per_round
        .map_or_else(String::new, |asked| format!(", {asked} of them a round"));
    let teacher = match results.comparison.grid.teachers.as_slice() {
        [one] => format!(", teacher {one}"),
        _ => String::new(),
    };
    let seeds: Vec<String> = results.seeds.iter().map(ToString::to_string).collect();
    let spread = match seeds.len() {
        1 => String::new(),
        _ => "; ± the sample standard deviation over seeds".to_owned(),
    };
    [
        format!(
            "{}: {} clients ({}){asked}, {} rounds{teacher}, seeds {}.",
            config.data,
            config.clients,
            models.join(", "),
            config.rounds,
            seeds.join(", ")
        ),
        format!(
            "Accuracy on the test samples: mean over clients, and of the server's model; personal: of each client on {}{spread}.",
            measured_on(config, &results.comparison.grid.partitions)
        ),
        "Bytes of a client in all rounds; down with the transfer set, which who needs it fetches once."
            .to_owned(),
    ]
}

/// Lines below the table: what has failed, what was left out.
pub(crate) fn remarks(results: &Results) -> Vec<String> {
    let failed = results.failed();
    let failed = failed.into_iter().map(|line| format!("failed: {line}"));
    failed.chain(results.left_out.iter().cloned()).collect()
}

pub(crate) fn plain(results: &Results) -> String {
    let mut table = Table::of(results);
    for line in table.groups.iter_mut().flat_map(|group| &mut group.lines) {
        line.cells[0] += if line.best { " *" } else { "" };
    }
    let width = |column: usize| {
        let lines = table.groups.iter().flat_map(|group| &group.lines);
        let cells = lines.map(|line| &line.cells[column]);
        let cells = cells.chain([&table.head[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match column {
                0 => write!(line, "  {cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        line
    };
    let caption = caption(results).join("\n");
    let mut text = format!("{caption}\n\n{}\n", line(&table.head));
    for group in &table.groups {
        text += &format!("{}\n", group.name);
        for row in &group.lines {
            text += &format!("{}\n", line(&row.cells));
        }
    }
    text += "* the best students of a partition and teacher\n";
    for remark in remarks(results) {
        text += &format!("{remark}\n");
    }
    text
}

pub(crate) fn markdown(results: &Results) -> String {
    let table = Table::of(results);
    let caption = caption(results).join("\n");
    let cell = |text: &str| text.replace('|', "\\|");
    let mut text = format!("{caption} In bold, the best.\n\n| partition |");
    for head in &table.head {
        let _ = write!(text, " {} |", cell(head));
    }
    let _ = write!(
        text,
        "\n|---|---|{}\n",
        "---:|".repeat(table.head.len() - 1)
    );
    for group in &table.groups {
        for (place, Line { best, cells }) in group.lines.iter().enumerate() {
            let name = if place == 0 { group.name.as_str() } else { "" };
            let _ = write!(text, "| {} |", cell(name));
            for (column, value) in cells.iter().enumerate() {
                let value = match (column, value.as_str()) {
                    (0, name) => format!("`{}`", cell(name)),
                    (_, value) => cell(value),
                };
                let _ = match *best && column < 2 {
                    true => write!(text, " **{value}** |"),
                    false => write!(text, " {value} |"),
                };
            }
            text.push('\n');
        }
    }
    for remark in remarks(results) {
        let _ = write!(text, "\n- {remark}");
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    if let Some(glance) = glance::markdown(results) {
        let _ = write!(text, "\n{glance}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::tests::example;

    #[test]
    fn a_terminal_gets_columns() {
        let text = plain(&example());
        let line = |part: &str, place: usize| {
            let mut lines = text.lines().filter(|line| line.contains(part));
            lines.nth(place).unwrap_or_default()
        };
        assert_eq!(
            line("students  ", 0),
            "  method                             students      personal        server      up    down  of FedAvg's bytes",
            "{text}"
        );
        assert_eq!(
            line("logit-mean", 0),
            "  logit-mean *                   72.0 ± 1.0 %  82.0 ± 1.0 %  36.0 ± 0.5 %  1.0 kB  3.0 kB                1.2",
            "{text}"
        );
        assert_eq!(
            line("logit-mean", 2),
            "  logit-mean                           failed             –             –       –       –                  –",
            "{text}"
        );
        assert!(
            line("logit-mean", 3).contains("72.0 ± 1.4 % (2 of 3 seeds)"),
            "{text}"
        );
        assert_eq!(line("shards:2, teacher", 0), "shards:2, teacher none");
        assert!(text.contains("failed: logit-mean, shards:2, teacher none, seed 1: it | diverged"));
        let left_out =
            "teacher-only with teacher none is left out: it needs one that knows something\n";
        assert!(text.ends_with(left_out), "{text}");
    }

    #[test]
    fn markdown_is_a_table() {
        let text = markdown(&example());
        let (text, _) = text.split_once("At a glance").unwrap();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 10);
        assert!(rows.iter().all(|row| row.matches(" |").count()
            + row.matches("-|").count()
            + row.matches(":|").count()
            >= 7));
        let columns = |row: &str| row.replace("\\|", "").matches('|').count();
        assert!(
            rows.iter().all(|row| columns(row) == columns(rows[0])),
            "{text}"
        );
        assert_eq!(
            rows[3],
            "|  | **`logit-mean`** | **72.0 ± 1.0 %** | 82.0 ± 1.0 % | 36.0 ± 0.5 % | 1.0 kB | 3.0 kB | 1.2 |"
        );
    }

    #[test]
    fn ratios_have_two_digits() {
        for (ratio, text) in [
            (1.0, "1.0"),
            (0.0986, "0.099"),
            (0.00123, "0.0012"),
            (12.34, "12"),
            (123.4, "123"),
            (0.0, "0.000000"),
        ] {
            assert_eq!(times(ratio), text);
        }
    }
}
