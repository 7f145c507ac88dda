//! `fedistill-soak`, as short as it can be: what it measures for hours works.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use fedistill_tests::{program, run};

/// What it prints, with these arguments.
fn soak(arguments: &str) -> String {
    let ended = run(Command::new(program("fedistill-soak")).args(arguments.split(' ')));
    let (output, told) = (ended.output, ended.told);
    assert_eq!(ended.code, Some(0), "{output}\n{told}");
    output
}

/// The number that stands before `unit`.
fn number(output: &str, unit: &str) -> f64 {
    let before = output.split_once(unit).unwrap().0;
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn rounds_go_on_while_clients_leave_and_come() {
    let output =
        soak("churn --clients 8 --churn 0.25 --minutes 0.1 --period 0.7 --every 0.5 --pace 0.1");
    assert!(
        output.contains("nothing lost, nothing counted twice"),
        "{output}"
    );
    assert!(number(&output, " rounds came about") >= 10.0, "{output}");
    // As many as there are at a time, and two in each period.
    let mut connected = output
        .lines()
        .filter(|line| line.contains(" times connected"));
    assert!(
        number(connected.next_back().unwrap(), " times connected") >= 20.0,
        "{output}"
    );
}

#[test]
fn idle_connections_take_little() {
    let output = soak("idle --connections 200 --settle 0.1");
    assert!(
        output.contains("200 of 200 connections are there still"),
        "{output}"
    );
}

#[test]
fn clients_are_back_soon_after_a_crash() {
    let output = soak("reconnect --clients 60 --times 1 --away 0.1 --keep-alive 0.5 --within 60");
    assert!(output.contains("turned away for good"), "{output}");
}

#[test]
fn rounds_come_about_though_clients_drop_out() {
    let output = soak(
        "dropout --dropout 0,0.5 --over-selection 1,2.5 --cohort 5 --clients 13 --rounds 4 --median 0.02 --at-once 4",
    );
    let share = |line: &str| output.lines().find(|row| row.contains(line)).is_some();
    assert!(share("| 0 % | 5 for 5 | 100 % of 4 | 100 % |"), "{output}");
    assert!(share("| 50 % | 13 for 5 |"), "{output}");
}
