//! Methods that tell clients apart: KT-pFL and COMET.

use super::*;

/// KT-pFL (Zhang et al. 2021): client k gets sum c_l s_l, of the c at least 0 and adding up to 1 that make
/// |sum c_l s_l - s_k|^2 / n + rho / K |s_k|^2 / n |c - 1 / K|^2 least.
#[test]
fn kt_pfl_mixes_what_clients_say_by_the_pull_to_equal_shares() {
    let all = said(
        AnswerKind::Probabilities,
        &[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    );
    // With the own share a, the other one 1 - a, and times n: 2 (1 - a)^2 + rho / 2 * 2 (a - 1 / 2)^2. Its slope
    // -4 (1 - a) + 2 rho (a - 1 / 2) is 0 at a = (4 + rho) / (4 + 2 rho).
    for (name, own) in [
        ("kt-pfl,rho=0", 1.0),
        ("kt-pfl", 4.7 / 5.4),
        ("kt-pfl,rho=2", 0.75),
        ("kt-pfl,rho=4", 2.0 / 3.0),
    ] {
        let mut sage = blank();
        let state = round(&*named(name), &all, Some(&mut sage));
        close(personal(&state, 0), &[own, 1.0 - own, 0.0]);
        close(personal(&state, 1), &[1.0 - own, own, 0.0]);
        // The teacher and who gave nothing learn from the mean.
        close(&common(&state), &[0.5, 0.5, 0.0]);
        close(sage.learnt[0].values(), &[0.5, 0.5, 0.0]);
    }
}

/// COMET (Cho et al. 2023): of each sample the means of k clusters of those that speak of it.
#[test]
fn comet_clusters_those_that_speak_and_teaches_the_mean() {
    let all = said(
        AnswerKind::Probabilities,
        &[
            [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.0, 0.8],
            [0.8, 0.2, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.1, 0.9, 0.0, 0.0, 0.0, 0.0],
        ],
    );
    let mut sage = blank();
    let state = round(&*named("comet"), &all, Some(&mut sage));
    // Of the first sample two speak, each a cluster of its own. Of the second, clients 1 and 2 are one:
    // (0 + 0.1) / 2, (1 + 0.9) / 2. Of the third one speaks, and the second cluster is silent.
    let first = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.2, 0.0, 0.8];
    let second = [0.8, 0.2, 0.0, 0.05, 0.95, 0.0, 0.0, 0.0, 0.0];
    close(&common(&state), &[first, second].concat());
    // (1 + 0.8) / 2 and (0 + 0.2) / 2; (1 + 0 + 0.1) / 3 and (0 + 1 + 0.9) / 3; and the one that speaks.
    let mean = [0.9, 0.1, 0.0, 1.1 / 3.0, 1.9 / 3.0, 0.0, 0.2, 0.0, 0.8];
    assert_eq!(sage.learnt.len(), 1);
    close(sage.learnt[0].values(), &mean);
}
