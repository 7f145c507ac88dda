//! A comparison at a glance: a line a method, and beside each other what it came to under all
//! partitions and teachers.

use std::fmt::Write as _;

use crate::compare::results::{ACCURACIES, STUDENTS};
use crate::compare::{Results, Row, Spread};
use crate::summary::size;

/// Accuracies under each partition and teacher, students' and personal ones, in percent, and bytes of the
/// first of them; nothing where there is only one.
pub(crate) fn markdown(results: &Results) -> Option<String> {
    let rows = &results.rows;
    let mut conditions: Vec<&Row> = Vec::new();
    for row in rows {
        if !conditions.iter().any(|known| known.is_beside(row)) {
            conditions.push(row);
        }
    }
    let (first, others) = conditions.split_first()?;
    if others.is_empty() {
        return None;
    }
    let teachers = results.comparison.grid.teachers.len();
    let mut text = "At a glance: students / personal, in percent; bytes of a client, up / down without the transfer set, as in the first column.\n\n| method |".to_owned();
    for condition in &conditions {
        // Writing to a string cannot fail.
        let _ = match teachers {
            1 => write!(text, " {} |", condition.partition),
            _ => {
                let teacher = condition.teacher.to_string().replace('|', "\\|");
                write!(text, " {}, {teacher} |", condition.partition)
            }
        };
    }
    let _ = write!(
        text,
        " bytes |\n|---|{}---:|\n",
        "---:|".repeat(conditions.len())
    );
    for method in &results.comparison.grid.methods {
        let _ = write!(text, "| `{method}` |");
        let of = |condition: &Row| {
            let mut rows = rows.iter();
            rows.find(|row| row.method == *method && row.is_beside(condition))
        };
        for condition in &conditions {
            let row = of(condition).filter(|row| row.done > 0);
            let cell = row.map_or_else(|| "–".to_owned(), accuracies);
            let _ = match row.is_some_and(|row| row.best) {
                true => write!(text, " **{cell}** |"),
                false => write!(text, " {cell} |"),
            };
        }
        let bytes = of(first).filter(|row| row.done > 0).map(|row| {
            let down = row.down - row.transfer_set;
            format!("{} / {}", size(row.up), size(down))
        });
        let _ = writeln!(text, " {} |", bytes.unwrap_or_else(|| "–".to_owned()));
    }
    Some(text)
}

fn accuracies(row: &Row) -> String {
    let columns = ACCURACIES.iter().map(|(name, _)| *name);
    let columns = columns.filter(|name| [STUDENTS, "personal"].contains(name));
    let shown = columns.filter_map(|name| row.accuracy.get(name).copied());
    let shown: Vec<String> = shown.map(percent).collect();
    shown.join(" / ")
}

fn percent(Spread { mean, .. }: Spread) -> String {
    format!("{:.1}", 100.0 * mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TeacherSource;
    use crate::compare::results::tests::example;

    #[test]
    fn a_method_is_a_line_and_a_condition_a_column() {
        let text = markdown(&example()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        let head =
            "| method | iid, none | iid, train:50 | shards:2, none | shards:2, train:50 | bytes |";
        assert_eq!(lines[0], head);
        assert_eq!(lines.len(), 2 + 3);
        assert_eq!(
            lines[3],
            "| `logit-mean` | **72.0 / 82.0** | **72.0 / 82.0** | – | 72.0 / 82.0 | 1.0 kB / 2.9 kB |"
        );
        assert!(
            lines.iter().all(|line| line.matches('|').count() == 7),
            "{text}"
        );
    }

    fn lines(results: &Results) -> Vec<String> {
        let text = markdown(results).unwrap();
        let lines = text.lines().filter(|line| line.starts_with('|'));
        lines.map(str::to_owned).collect()
    }

    #[test]
    fn what_there_is_nothing_of_is_a_dash() {
        let mut results = example();
        // Without a teacher it is not run; bytes are of the first column alone.
        assert_eq!(
            lines(&results)[4],
            "| `teacher-only` | – | 62.0 / 72.0 | – | **62.0 / 72.0** | – |"
        );
        // All have failed in the first.
        results.rows[0].done = 0;
        let line = &lines(&results)[2];
        assert!(line.starts_with("| `local` | – | 52.0"), "{line}");
        assert!(line.ends_with(" – |"), "{line}");
    }

    #[test]
    fn one_teacher_for_all_is_not_named() {
        let mut results = example();
        results
            .rows
            .retain(|row| row.teacher == TeacherSource::None);
        results.comparison.grid.teachers.truncate(1);
        assert_eq!(lines(&results)[0], "| method | iid | shards:2 | bytes |");
    }

    #[test]
    fn one_condition_needs_no_other_table() {
        let mut results = example();
        let first = results.rows[0].clone();
        results.rows.retain(|row| row.is_beside(&first));
        assert_eq!(markdown(&results), None);
    }
}
