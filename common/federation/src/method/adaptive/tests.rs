use super::*;
use crate::method::by_name;
pub(super) use federation::{CLASSES, Federation, Teacher};
use federation::{SAMPLES, fresh, said};

mod federation;

/// Labelled samples among the others.
fn probes(teacher: Option<Answers>) -> Probes {
    let rows = Rows::of((22..SAMPLES).step_by(2).collect());
    let labels = rows.iter().map(|row| row % CLASSES).collect();
    Probes::new(rows, labels, teacher).unwrap()
}

/// So many rounds, with clients that are right about so many of every 10 samples; what was asked of
/// each, and the state at the end.
fn rounds(
    count: u32,
    clients: u32,
    teacher: &mut Teacher,
    probes: Option<&Probes>,
) -> (Vec<Rows>, State) {
    let mut federation = Federation::of("adaptive")
        .probed(probes)
        .begun(Some(teacher));
    let asked = (0..count)
        .map(|_| federation.answered_by(clients))
        .collect();
    (asked, federation.state)
}

fn weight(clients: u32, teacher: u32, probes: &Probes) -> f64 {
    let (_, state) = rounds(5, clients, &mut Teacher::knows(teacher), Some(probes));
    state.decided["teacher weight"]
}

#[test]
fn notes_come_back_and_others_are_refused() {
    let first = Answers::new(AnswerKind::Logits, 2, vec![0.5, -0.5, 2.0, -2.0]).unwrap();
    use silence::Reach;
    for reach in [Reach::Near, Reach::Wide, Reach::All] {
        use notes::Weight::{ForGood, ForNow, Open};
        for weight in [Open, ForNow(0.25), ForNow(0.0), ForGood(0.25), ForGood(0.0)] {
            let notes = Notes {
                weight,
                first: Some(first.clone()),
                reach,
            };
            assert_eq!(Notes::read(&notes.bytes(), 2, "adaptive").unwrap(), notes);
        }
        let notes = Notes {
            reach,
            ..Notes::default()
        };
        assert_eq!(Notes::read(&notes.bytes(), 2, "adaptive").unwrap(), notes);
    }
    assert_eq!(Notes::read(&[], 2, "adaptive").unwrap(), Notes::default());
    assert!(Notes::read(&[3], 2, "adaptive").is_err());
    assert!(Notes::read(&[0; 7], 2, "adaptive").is_err());
    assert!(Notes::read(&[0; 12], 2, "adaptive").is_err());
    // Of another transfer set: its answers would be taken for those of other samples.
    let first = Some(first);
    let notes = Notes {
        first,
        ..Notes::default()
    };
    assert!(Notes::read(&notes.bytes(), 3, "adaptive").is_err());
}

#[test]
fn where_no_client_speaks_the_teacher_does() {
    let pool = Adaptive::pool;
    assert_eq!(pool(&[0.0, 0.0], Some(&[1.0, -1.0]), 0.5), [1.0, -1.0]);
    assert_eq!(pool(&[2.0, -2.0], None, 0.5), [2.0, -2.0]);
    assert_eq!(pool(&[2.0, -2.0], Some(&[-1.0, 1.0]), 1.0), [0.5, -0.5]);
}

#[test]
fn labelled_samples_are_asked_about_twice_in_the_place_of_others() {
    let probes = probes(None);
    let mut teacher = Teacher::knows(8);
    let (asked, state) = rounds(6, 6, &mut teacher, Some(&probes));
    let hidden = |rows: &Rows| rows.iter().filter(|row| probes.of(*row).is_some()).count();
    let counts: Vec<usize> = asked.iter().map(hidden).collect();
    assert_eq!(counts, [0, 4, 0, 10, 0, 0]);
    assert!(asked.iter().all(|rows| rows.count() == 20));
    // Nobody learns of them.
    assert!(teacher.taught.iter().all(|(rows, _)| hidden(rows) == 0));
    assert_eq!(teacher.taught[3].0.count(), 10);
    let About::Rows(rows) = &state.common[0].about else {
        panic!("it teaches classes")
    };
    assert_eq!(hidden(rows), 0);
}

#[test]
fn a_teacher_weighs_as_much_as_it_is_better_than_clients() {
    let probes = probes(None);
    let good = weight(5, 10, &probes);
    let bad = weight(10, 3, &probes);
    assert!(good > 2.0 * bad, "{good} {bad}");
    // The one is bounded by who is right alone, the other by what a fit may come to.
    assert!(good > 0.5 && (0.01..=0.5).contains(&bad));
    // What teachers say that have not seen the samples comes before what this one says of them.
    let rows = probes.rows.clone();
    let honest = said(&rows, |row| row * 7 % 10 < 3);
    let labels = rows.iter().map(|row| row % CLASSES).collect();
    let corrected = Probes::new(rows, labels, Some(honest)).unwrap();
    let measured = weight(5, 10, &corrected);
    assert_eq!(measured, weight(5, 3, &probes));
    assert!(measured < good);
}

#[test]
fn without_labelled_samples_the_weight_stays_as_given() {
    let (asked, state) = rounds(6, 6, &mut Teacher::knows(8), None);
    assert!(asked.iter().all(|rows| *rows == fresh()));
    assert_eq!(state.decided["teacher weight"], 0.3);
}

#[test]
fn until_it_is_measured_a_teacher_weighs_as_much_as_clients() {
    let probes = probes(None);
    let after = |count| {
        let (_, state) = rounds(count, 10, &mut Teacher::knows(3), Some(&probes));
        state.decided["teacher weight"]
    };
    assert_eq!([0, 1].map(after), [1.0; 2]);
    assert!(after(2) <= 0.5);
    assert_eq!(after(3), after(2));
}

#[test]
fn a_weight_is_measured_again_when_clients_know_more() {
    let probes = probes(None);
    let mut teacher = Teacher::knows(6);
    let federation = Federation::of("adaptive").probed(Some(&probes));
    let mut federation = federation.begun(Some(&mut teacher));
    // Clients that learn from round to round; from the fifth on they would be as bad as they began.
    let weights = [1, 3, 5, 10, 1, 1].map(|right| {
        federation.answered_by(right);
        federation.teacher_weight()
    });
    let [first, early, kept, good, then, last] = weights;
    assert_eq!(first, 1.0);
    assert!(early > 1.0 && kept == early, "{weights:?}");
    assert!(good <= 0.5 && then == good && last == good, "{weights:?}");
}

#[test]
fn what_some_clients_measure_is_doubted_for_the_others() {
    let probes = probes(None);
    let weight = |is_sample| {
        let mut teacher = Teacher::knows(5);
        let federation = Federation::of("adaptive,caution=2").probed(Some(&probes));
        let federation = match is_sample {
            true => federation.sampled(),
            false => federation,
        };
        let mut federation = federation.begun(Some(&mut teacher));
        (0..4).for_each(|_| drop(federation.answered_by(6)));
        federation.teacher_weight()
    };
    let (all, some) = (weight(false), weight(true));
    assert!(some > all, "{some} {all}");
}

#[test]
fn a_weight_that_is_given_stays_until_it_is_measured() {
    let probes = probes(None);
    for probes in [None, Some(&probes)] {
        let mut teacher = Teacher::knows(8);
        let federation = Federation::of("adaptive,trust=2").probed(probes);
        assert_eq!(federation.begun(Some(&mut teacher)).teacher_weight(), 2.0);
    }
}

#[test]
fn only_what_the_teacher_said_first_votes() {
    // Taught once, this teacher is always wrong.
    let (_, first) = rounds(1, 6, &mut Teacher::knows(8), None);
    let (_, later) = rounds(5, 6, &mut Teacher::knows(8), None);
    assert_eq!(first.common, later.common);
}

#[test]
fn without_a_teacher_labels_are_the_mean_of_clients() {
    let answers = said(&fresh(), |row| row % 2 == 0);
    let mut federation = Federation::of("adaptive").begun(None);
    assert!(!federation.state.teaches());
    federation.answered(std::slice::from_ref(&answers));
    // They are centred already.
    assert_eq!(federation.state.common[0].answers, answers);
}

/// In what labels come down and answers go up once these labels are there, where the user asks for so
/// many bits.
fn packed(precision: Precision, labels: &[f32]) -> Option<Precision> {
    let mut federation = Federation::of("adaptive").packed(precision);
    let labels = Answers::new(AnswerKind::Logits, CLASSES, labels.to_vec()).unwrap();
    federation.state.teach(About::Rows(fresh()), labels);
    let ask = federation.ask();
    assert_eq!(ask.precision, ask.report.unwrap().precision);
    ask.precision
}

/// Labels that one bit is enough for.
fn votes() -> Vec<f32> {
    let vote = |row: u32, class| if row % CLASSES == class { 4.0 } else { -2.0 };
    let votes = (0..20).flat_map(|row| (0..CLASSES).map(move |class| vote(row, class)));
    votes.collect()
}

/// Labels that one bit would spoil.
fn fine() -> Vec<f32> {
    (0..60u32).map(|i| (i * 7 % 61) as f32 / 8.0).collect()
}

#[test]
fn bits_are_a_decision_only_where_they_are_not_those_asked_for() {
    let usual = by_name("adaptive").unwrap().usual_precision();
    let mut federation = Federation::of("adaptive").begun(None);
    let mut after = |precision, labels: Vec<f32>| {
        federation.precision = precision;
        let answers = Answers::new(AnswerKind::Logits, CLASSES, labels).unwrap();
        federation.answered(&[answers]);
        federation.state.decided.get("bits").copied()
    };
    assert_eq!(after(usual, fine()), None);
    assert_eq!(after(Precision::U1, votes()), None);
    assert_eq!(after(Precision::U1, fine()), Some(4.0));
    // What is told once is not left as it was.
    assert_eq!(after(Precision::U1, votes()), Some(1.0));
}

#[test]
fn bits_are_no_fewer_than_labels_bear() {
    let (votes, fine) = (votes(), fine());
    assert_eq!(packed(Precision::U1, &votes), Some(Precision::U1));
    // One bit would spoil these, which is what happens under skew.
    assert_eq!(packed(Precision::U1, &fine), Some(Precision::U4));
    assert_eq!(packed(Precision::U4, &fine), Some(Precision::U4));
    assert_eq!(packed(Precision::U8, &votes), Some(Precision::U8));
    assert_eq!(packed(Precision::F16, &fine), None);
    let (_, state) = rounds(2, 6, &mut Teacher::knows(8), None);
    assert!(!state.decided.contains_key("bits"));
}

#[test]
fn those_who_vote_say_a_class_a_sample_and_hear_one() {
    let mut teacher = Teacher::knows(10);
    let federation = Federation::of("adaptive,votes=0.75").packed(Precision::U8);
    let mut federation = federation.begun(Some(&mut teacher));
    assert_eq!(federation.ask().precision, Some(Precision::U1));
    let (wanted, rows) = federation.wanted();
    assert_eq!(wanted.kind, AnswerKind::Probabilities);
    assert_eq!(wanted.precision, Some(Precision::U1));
    assert_eq!(wanted.silence, Silence::Far { quantile: 0.75 });
    // All vote for the class after the right one on even rows, and are silent on odd ones.
    let vote = |row: u32, class| {
        f32::from(u8::from(
            row.is_multiple_of(2) && class == (row + 1) % CLASSES,
        ))
    };
    let votes = rows
        .iter()
        .flat_map(|row| (0..CLASSES).map(move |class| vote(row, class)));
    let votes = Answers::new(AnswerKind::Probabilities, CLASSES, votes.collect()).unwrap();
    federation.answered(&[votes]);
    let lesson = &federation.state.common[0].answers;
    assert_eq!(lesson.kind(), AnswerKind::Probabilities);
    for (row, said) in rows.iter().zip(lesson.iter()) {
        let class = (row + u32::from(row.is_multiple_of(2))) % CLASSES;
        let expected = (0..CLASSES).map(|at| f32::from(u8::from(at == class)));
        assert_eq!(said, expected.collect::<Vec<f32>>(), "row {row}");
    }
    assert!(!federation.state.decided.contains_key("bits"));
}
