//! The relations of papers, on the data in the repository; see `fedistill_tests::papers`. What
//! they came to: `cargo test -p fedistill-tests --test papers -- --nocapture`
#![allow(clippy::panic, reason = "a test fails by panicking")]

use fedistill_tests::papers::{Lab, relation};

#[track_caller]
fn holds(number: &str) {
    let (_, measure) = relation(number).unwrap_or_else(|| panic!("no relation {number}"));
    let findings = measure(Lab::quick());
    assert!(!findings.is_empty());
    for finding in &findings {
        println!("{number} | {finding}");
    }
    for finding in findings {
        assert!(finding.holds(), "{number} | {finding}");
    }
}

#[test]
fn class_means_take_four_hundred_bytes() {
    holds("C1");
}

#[test]
fn answers_do_not_grow_with_the_model() {
    holds("C2");
}

#[test]
fn sharpening_helps_under_skew_alone() {
    holds("C3");
}

#[test]
fn class_means_hardly_help_beyond_a_client() {
    holds("C4");
}

#[test]
fn logits_beat_probabilities_under_skew() {
    holds("C5");
}

#[test]
fn one_bit_is_enough_on_even_data() {
    holds("C6");
}

#[test]
fn a_common_start_helps_no_more_here_than_an_own_one() {
    holds("C7");
}

#[test]
fn a_cache_saves_what_its_law_says() {
    holds("C9");
}

#[test]
fn liars_do_not_move_a_median() {
    holds("C10");
}

#[test]
fn a_teacher_tells_more_than_labels() {
    holds("C11");
}

#[test]
fn fused_models_come_near_averaged_ones() {
    holds("C12");
}
