//! SCARLET (Azuma et al. 2025): labels that both sides keep need not cross again.

use fedistill_simulator::config::Config;

use super::{Figures, Finding, Lab, Rule, Runs};

pub(super) fn saves_what_its_law_says(lab: &Lab) -> Vec<Finding> {
    let duration = 20;
    let samples = lab.sized(200, 400);
    let of = |method: String| {
        lab.run(&Config {
            method,
            samples,
            rounds: 60,
            private_epochs: lab.sized(1, 3),
            ..lab.base()
        })
    };
    let plain = of("ds-fl:sa".to_owned());
    let kept = of(format!("scarlet,duration={duration},beta=1"));
    // What is kept has been made in another round in the long run: the first ones fill the cache.
    let settled = |runs: &Runs| -> Figures {
        let from = 2 * duration as usize;
        runs.each(|run| {
            let rounds = &run.federated.rounds[from..run.config.rounds as usize];
            let bytes = rounds
                .iter()
                .flat_map(|row| &row.ledger.up.packed)
                .sum::<u64>();
            bytes as f64 / rounds.len() as f64
        })
    };
    let share = settled(&kept).over(&settled(&plain));
    let public = lab.sized(2000.0, 4000.0);
    let law = 1.0 / (1.0 + f64::from(duration * samples) / public);
    let ratio = share.0.iter().map(|share| share / law).collect();
    let (with, without) = (kept.server(), plain.server());
    // Half of the clients miss each round, and what it changed.
    let missing = |method: String| {
        lab.run(&Config {
            method,
            samples,
            rounds: 12,
            per_round: Some(5),
            ..lab.base()
        })
    };
    let mirrored = missing(format!("scarlet,duration={duration},beta=1"));
    let whole = missing(format!("scarlet,duration={duration},beta=1,delta=0"));
    let anew = missing("ds-fl:sa".to_owned());
    let same = mirrored.digests().into_iter().zip(whole.digests());
    let down = |runs: &Runs| {
        runs.each(|run| {
            let rows = run.federated.rounds.iter();
            rows.flat_map(|row| &row.ledger.down.packed).sum::<u64>() as f64
        })
    };
    vec![
        Finding::new(
            format!("SCARLET over DS-FL, D = {duration}, bytes up in all rounds"),
            kept.up_in_all().over(&plain.up_in_all()),
            Rule::AtMost(0.75),
            "SCARLET: half of the traffic",
        )
        .digits(3),
        Finding::new(
            "payload up once the cache is full, over 1 / (1 + DN / P) of DS-FL's",
            ratio,
            Rule::Between(0.9, 1.1),
            "labels kept at expiry",
        )
        .digits(3),
        Finding::new(
            "what that costs, iid, points",
            without.less(&with),
            Rule::AtMost(lab.sized(3.5, 1.0)),
            "SCARLET: no loss",
        )
        .of(&[("SCARLET", &with), ("SA", &without)]),
        Finding::new(
            "half of the clients a round: updates and whole caches, the same students to the bit",
            same.map(|(a, b)| f64::from(u8::from(a == b))).collect(),
            Rule::Exactly(1.0),
            "both sides' caches stay the same",
        )
        .digits(0),
        Finding::new(
            "bytes down of updates over those of whole caches, there",
            down(&mirrored).over(&down(&whole)),
            Rule::AtMost(0.4),
            "-",
        )
        .digits(3),
        Finding::new(
            "SCARLET over DS-FL, bytes down there",
            down(&mirrored).over(&down(&anew)),
            // Each label comes once to each client: in so few rounds most of them are the first of their samples.
            Rule::AtMost(1.25),
            "SCARLET: who was away gets what has changed since",
        )
        .digits(3),
    ]
}
