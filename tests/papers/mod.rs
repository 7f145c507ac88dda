//! The relations that papers on federated distillation report, held against this implementation.
//!
//! Each file here is a relation or a few that share federations. The same relation is run in two sizes:
//! quick, on the data in the repository, as a test (`quick.rs`); and full, on whole data sets, by
//! `fedistill-papers` (`table.rs`), which prints the table in `docs/papers.md`. A rule is about the mean
//! over seeds, never about one seed.

mod cache;
mod class_means;
mod dark_knowledge;
mod dual;
mod few_bits;
mod figures;
mod finding;
mod fused;
mod lab;
mod liars;
mod logits;
mod payload;
mod sharpened;

pub use figures::Figures;
pub use finding::{Finding, Rule, markdown};
pub use lab::{Lab, Runs, find};

/// A relation or a few that share federations: its number, and what measures it.
pub type Relation = (&'static str, fn(&Lab) -> Vec<Finding>);

/// All relations, by their number in `docs/papers.md`.
pub const RELATIONS: [Relation; 11] = [
    ("C1", payload::class_means_are_exact),
    ("C2", payload::answers_do_not_know_the_model),
    ("C3", sharpened::helps_under_skew_alone),
    ("C4", class_means::hardly_help_beyond_a_client),
    ("C5", logits::beat_probabilities_under_skew),
    ("C6", few_bits::are_enough_on_even_data),
    ("C7", dual::distillation_from_common_parameters),
    ("C9", cache::saves_what_its_law_says),
    ("C10", liars::do_not_move_a_median),
    ("C11", dark_knowledge::teaches_a_small_net),
    ("C12", fused::models_are_no_worse_than_averaged),
];

/// The relation of this number.
pub fn relation(number: &str) -> Option<Relation> {
    let mut all = RELATIONS.into_iter();
    all.find(|(of, _)| *of == number)
}
