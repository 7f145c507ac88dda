//! Methods that speak about classes: FD, FedProto, FedTGP.

use super::*;
use crate::method::prototypes::{Prototypes, Tuition};

/// FD (Jeong et al. 2018): client i gets, of each class, (sum of all means - its own) / (M - 1), where M are those that
/// hold the class.
#[test]
fn fd_leaves_out_what_a_client_said_itself() {
    // Rows are classes 0, 1 and 2; a class that a client does not hold is a row of zeros.
    let all = said(
        AnswerKind::Probabilities,
        &[
            [0.8, 0.2, 0.0, 0.4, 0.6, 0.0, 0.0, 0.0, 0.0],
            [0.6, 0.2, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [0.4, 0.4, 0.2, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5],
        ],
    );
    let state = round(&*named("fd"), &all, None);
    // Class 0: (1.8 - 0.8) / 2, (0.8 - 0.2) / 2, (0.4 - 0) / 2. Of the others client 2 alone speaks.
    close(
        personal(&state, 0),
        &[0.5, 0.3, 0.2, 0.0, 1.0, 0.0, 0.5, 0.0, 0.5],
    );
    // Class 0: (1.8 - 0.6) / 2 and so on. Class 1: (0.4 + 0) / 2, (0.6 + 1) / 2.
    close(
        personal(&state, 1),
        &[0.6, 0.3, 0.1, 0.2, 0.8, 0.0, 0.5, 0.0, 0.5],
    );
    // Class 0: (1.8 - 0.4) / 2 and so on. Nobody else holds class 2.
    close(
        personal(&state, 2),
        &[0.7, 0.2, 0.1, 0.4, 0.6, 0.0, 0.0, 0.0, 0.0],
    );
    // Who gave nothing gets the mean over all: 1.8 / 3, 0.8 / 3, 0.4 / 3.
    close(
        personal(&state, 3),
        &[0.6, 0.8 / 3.0, 0.4 / 3.0, 0.2, 0.8, 0.0, 0.5, 0.0, 0.5],
    );
}

/// FedProto (Tan et al. 2022): of each class the mean over the clients that hold it.
#[test]
fn fedproto_takes_the_mean_of_prototypes() {
    let all = said(
        AnswerKind::Features,
        &[
            [2.0, -10.0, 100.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [4.0, 0.0, 0.0, 0.0, 0.5, -70.0, 0.0, 0.0, 0.0],
        ],
    );
    let state = round(&*named("fedproto,width=3"), &all, None);
    // (2 + 4) / 2, (-10 + 0) / 2, and 100 counts as 64: 64 / 2. Class 1 is what client 1 says, class 2 is nobody's.
    close(
        &common(&state),
        &[3.0, -5.0, 32.0, 0.0, 0.5, -64.0, 0.0, 0.0, 0.0],
    );
}

/// FedTGP (Zhang et al. 2024): a step of the coordinator goes down the gradient of the cross-entropy of
/// -(distance + delta [same class]), delta = min(largest distance between classes' means, tau).
#[test]
fn fedtgp_pushes_prototypes_apart_by_a_margin_on_their_own_class() {
    // Two classes, one feature: embeddings 2 and 2, both layers the identity. So both prototypes are 2.
    let weights = [2.0f32, 2.0, 1.0, 0.0, 1.0, 0.0];
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    // Clients' prototypes are 1 and 3: all distances are 1, and the classes' means are 2 apart.
    let said = [(0, vec![1.0]), (1, vec![3.0])];
    for (threshold, margin) in [(0.0, 0.0f32), (3.0f32.ln(), 3.0f32.ln()), (100.0, 2.0)] {
        let mut prototypes = Prototypes::read(&bytes, 2, 1).unwrap();
        let tuition = Tuition {
            epochs: 1,
            batch: 2,
            rate: 1.0,
            threshold,
        };
        prototypes.train(&said, tuition, 1);
        // Of a client's prototype the own class has the share q = 1 / (1 + e^margin), the other one 1 - q. So each
        // loss has the slope 1 - q in the own distance and q - 1 in the other; class 0's prototype is drawn to 1 with
        // 1 - q and pushed from 3 with 1 - q, halved by the batch: it falls by 1 - q, as class 1's rises. All of that
        // is in the embeddings, as the slopes of what both classes share cancel out. At a margin of ln 3 it is 3 / 4.
        let step = 1.0 - 1.0 / (1.0 + margin.exp());
        close(&prototypes.all(), &[2.0 - step, 2.0 + step]);
    }
}

/// Prototypes of a class that nobody has ever held say nothing; one that was known stays known.
#[test]
fn fedtgp_says_nothing_of_a_class_before_somebody_holds_it() {
    let method = named("fedtgp,width=3,server-epochs=1");
    let rows = Rows::Range { start: 0, count: 1 };
    let mut state = State::default();
    let held = |classes: &[usize]| -> Vec<Answers> {
        let mut values = [0.0; 9];
        classes.iter().for_each(|class| values[4 * class] = 1.0);
        said(AnswerKind::Features, &[values])
    };
    for (held, known) in [
        (held(&[0, 1]), [true, true, false]),
        (held(&[0]), [true, true, false]),
        (held(&[2]), [true, true, true]),
    ] {
        go_on(&*method, &outlook(&rows), &held, None, &mut state);
        let speaks: Vec<bool> = state.common[0].answers.speaks().collect();
        assert_eq!(speaks, known);
    }
}

/// Steps too long lead prototypes out of all numbers: the key is told, and what was known stays.
#[test]
fn fedtgp_tells_which_key_led_it_astray() {
    let method = named("fedtgp,width=64,server-rate=10");
    let rows = Rows::Range { start: 0, count: 1 };
    let far = |client: usize| std::array::from_fn(|i| ((i * 37 + client * 11) % 64) as f32);
    let values: [[f32; 3 * 64]; 8] = std::array::from_fn(far);
    let all = said(AnswerKind::Features, &values);
    let mut state = State::default();
    let mut ended = Ok(());
    for _ in 0..20 {
        let before = state.clone();
        ended = try_to_go_on(&*method, &outlook(&rows), &all, None, &mut state);
        if ended.is_err() {
            assert_eq!(state, before);
            break;
        }
    }
    let error = ended.unwrap_err().to_string();
    assert!(
        error.contains("fedtgp") && error.contains("server-rate is 10"),
        "{error}"
    );
}
