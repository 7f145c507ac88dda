use fedistill_protocol::{
    About, AnswerKind, Contribution, Elements, Goodbye, Knowledge, Loss, LossTerm, Optimiser,
    Phase, PhaseData, Precision, Receipt, RejectReason, Rejected, Report, Rounding, Rows, Silence,
    Start, Toward, Update,
};

mod anew;
mod durable;
mod packings;
mod updates;

use super::*;
use crate::Policy;

fn set() -> TransferSet {
    TransferSet::new(vec![2], Elements::F32(vec![0.5; 8])).unwrap()
}

fn knowledge() -> Answers {
    Answers::new(AnswerKind::Logits, 2, vec![1.0; 6]).unwrap()
}

fn answers() -> Answers {
    Answers::new(AnswerKind::Logits, 2, vec![0.25; 4]).unwrap()
}

/// A plan of round `round` that distils three samples and asks for answers on two.
pub(crate) fn plan(round: u32) -> RoundPlan {
    let bytes = knowledge().pack(Precision::F32);
    RoundPlan {
        federation: "wards".parse().unwrap(),
        id: RoundId { round, attempt: 0 },
        transfer: Digest::of(&set().pack()),
        seed: 1,
        knowledge: vec![Knowledge {
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            kind: AnswerKind::Logits,
            width: 2,
            about: About::Rows(Rows::Range { start: 0, count: 3 }),
            precision: Precision::F32,
            update: None,
        }],
        phases: vec![Phase {
            start: Start::Continue,
            data: PhaseData::Transfer,
            only: None,
            epochs: 3,
            batch: 2,
            objective: vec![LossTerm::new(
                Loss::Kl { temperature: 1.0 },
                Toward::Knowledge,
            )],
            optimiser: Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.0,
            },
        }],
        report: Some(Report {
            kind: AnswerKind::Logits,
            about: About::Rows(Rows::List(vec![1, 3])),
            width: 2,
            precision: Precision::F32,
            rounding: Rounding::Nearest,
            adjust: 0.0,
            silence: Silence::Never,
            update: false,
        }),
        deadline_ms: 1000,
        cohort: 3,
    }
}

fn welcome() -> Welcome {
    let bytes = set().pack();
    Welcome {
        federation: "wards".parse().unwrap(),
        transfer: TransferManifest {
            blob: Digest::of(&bytes),
            bytes: bytes.len() as u64,
            samples: 4,
            shape: vec![2],
            classes: vec!["a".to_owned(), "b".to_owned()],
        },
        heartbeat_ms: 1000,
        epoch: 1,
        rolled_back: 0,
    }
}

fn agent() -> Agent {
    Agent::new(AgentConfig {
        federation: "wards".parse().unwrap(),
        classes: vec!["a".to_owned(), "b".to_owned()],
        shape: vec![2],
        policy: Policy::default(),
    })
}

fn step(agent: &mut Agent, input: Input) -> Vec<Output> {
    agent.handle(input);
    std::iter::from_fn(|| agent.poll_output()).collect()
}

fn hear(agent: &mut Agent, message: impl Into<Message>) -> Vec<Output> {
    step(agent, Input::Message(message.into()))
}

/// The connection breaks, and there is another one; what comes of its welcome.
fn back(agent: &mut Agent, welcome: Welcome) -> Vec<Output> {
    step(agent, Input::Lost);
    step(agent, Input::Connected);
    hear(agent, welcome)
}

/// The training for round 0 ends.
fn trained(agent: &mut Agent) -> Vec<Output> {
    step(agent, Input::Trained(plan(0).id, Ok(Some(answers()))))
}

/// An agent that trains for round 0.
fn at_work() -> Agent {
    let mut agent = agent();
    let outputs = begin(&mut agent);
    assert!(matches!(outputs[..], [Output::Train(_)]), "{outputs:?}");
    agent
}

/// From the connection to all that round 0 needs; what comes of the last of it.
fn begin(agent: &mut Agent) -> Vec<Output> {
    step(agent, Input::Connected);
    hear(agent, welcome());
    hear(agent, plan(0));
    let set = set().pack();
    step(agent, Input::Fetched(Digest::of(&set), set));
    let bytes = knowledge().pack(Precision::F32);
    step(agent, Input::Fetched(Digest::of(&bytes), bytes))
}

fn sent(outputs: &[Output]) -> Vec<&Message> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send(message) => Some(message),
            _ => None,
        })
        .collect()
}

#[test]
fn a_plan_that_speaks_of_no_sample_needs_none_of_them() {
    let mut agent = agent();
    step(&mut agent, Input::Connected);
    hear(&mut agent, welcome());
    let mut private = plan(0);
    private.knowledge.clear();
    private.report = None;
    private.phases[0].data = PhaseData::Private;
    private.phases[0].objective = vec![LossTerm::new(
        Loss::CrossEntropy { smoothing: 0.0 },
        Toward::Labels,
    )];
    let outputs = hear(&mut agent, private);
    assert!(
        matches!(&outputs[..], [Output::Train(job)] if job.transfer.is_none()),
        "{outputs:?}"
    );
    let set = Digest::of(&set().pack());
    let outputs = hear(&mut agent, plan(1));
    assert!(
        matches!(outputs[..], [Output::Cancel(_), Output::Fetch { blob, .. }] if blob == set),
        "{outputs:?}"
    );
}

#[test]
fn a_round_goes_from_hello_to_receipt() {
    let mut agent = agent();
    let outputs = step(&mut agent, Input::Connected);
    assert!(matches!(sent(&outputs)[..], [Message::Hello(hello)] if hello.transfer.is_none()));
    assert!(hear(&mut agent, welcome()).is_empty());
    let set = set().pack();
    let outputs = hear(&mut agent, plan(0));
    assert!(
        matches!(outputs[..], [Output::Fetch { blob, .. }] if blob == Digest::of(&set)),
        "a plan waits for the transfer set: {outputs:?}"
    );
    let outputs = step(&mut agent, Input::Fetched(Digest::of(&set), set));
    assert!(
        matches!(outputs[..], [Output::Fetch { .. }]),
        "then its knowledge is fetched"
    );
    let bytes = knowledge().pack(Precision::F32);
    let outputs = step(&mut agent, Input::Fetched(Digest::of(&bytes), bytes));
    let [Output::Train(job)] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    let samples = job.transfer.as_ref().map(|set| set.len());
    assert_eq!((&*job.knowledge[0], samples), (&knowledge(), Some(4)));
    let id = job.plan.id;
    let outputs = step(&mut agent, Input::Trained(id, Ok(Some(answers()))));
    let [
        Output::Offer(blobs),
        Output::Send(Message::Contribution(contribution)),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    let [(blob, bytes)] = &blobs[..] else {
        panic!("{blobs:?}");
    };
    assert_eq!(
        (contribution.blob, contribution.bytes),
        (*blob, bytes.len() as u64)
    );
    let receipt = Receipt { id, blob: *blob };
    assert_eq!(agent.at_work(), Some(id), "it is waited for");
    assert_eq!(
        hear(&mut agent, receipt),
        [Output::Retract, Output::Counted(id)]
    );
    assert_eq!(agent.at_work(), None);
    assert!(
        hear(&mut agent, receipt).is_empty(),
        "a second receipt says nothing new"
    );
    // A new connection: the transfer set is still here.
    step(&mut agent, Input::Lost);
    let outputs = step(&mut agent, Input::Connected);
    assert!(matches!(sent(&outputs)[..], [Message::Hello(hello)] if hello.transfer.is_some()));
    assert!(hear(&mut agent, welcome()).is_empty());
}

#[test]
fn work_goes_on_while_the_connection_is_away() {
    let mut agent = at_work();
    step(&mut agent, Input::Lost);
    let id = plan(0).id;
    assert_eq!(agent.training(), Some(id));
    let outputs = step(&mut agent, Input::Trained(id, Ok(Some(answers()))));
    assert!(sent(&outputs).is_empty(), "nobody to send to");
    step(&mut agent, Input::Connected);
    hear(&mut agent, welcome());
    let outputs = hear(&mut agent, plan(0));
    assert!(
        matches!(sent(&outputs)[..], [Message::Contribution(_)]),
        "the same plan, the same answer"
    );
    assert_eq!(agent.offered().len(), 1);
}

#[test]
fn a_newer_plan_ends_older_work() {
    let mut agent = at_work();
    assert!(
        hear(&mut agent, plan(0)).is_empty(),
        "the plan under way again"
    );
    let outputs = hear(&mut agent, plan(1));
    assert!(
        matches!(outputs[..], [Output::Cancel(id), Output::Train(_)] if id == plan(0).id),
        "its knowledge is here already: {outputs:?}"
    );
    let late = trained(&mut agent);
    assert!(late.is_empty(), "what comes of older work no longer counts");
}

#[test]
fn what_cannot_be_done_is_refused_with_a_reason() {
    type Spoil = fn(&mut RoundPlan);
    let cases: [(Spoil, &str); 5] = [
        (
            |plan| plan.transfer = Digest::of(b"another"),
            "transfer set",
        ),
        (|plan| plan.federation = "others".parse().unwrap(), "others"),
        (|plan| plan.phases[0].batch = 0, "batch"),
        (|plan| plan.phases[0].epochs = 1000, "policy"),
        (|plan| plan.knowledge[0].bytes = 1 << 40, "knowledge of"),
    ];
    for (spoil, part) in cases {
        let mut agent = at_work();
        let mut plan = plan(1);
        spoil(&mut plan);
        let outputs = hear(&mut agent, plan);
        let [Message::Refusal(refusal)] = sent(&outputs)[..] else {
            panic!("{outputs:?}");
        };
        assert!(refusal.why.contains(part), "{}", refusal.why);
    }
    let mut agent = at_work();
    let outputs = step(
        &mut agent,
        Input::Trained(plan(0).id, Err("no memory".to_owned())),
    );
    assert!(
        matches!(sent(&outputs)[..], [Message::Refusal(refusal)] if refusal.why == "no memory")
    );
}

#[test]
fn a_federation_that_does_not_fit_is_left_for_good() {
    type Spoil = fn(&mut Welcome);
    let cases: [(Spoil, &str); 3] = [
        (|w| w.transfer.classes.reverse(), "in the same order"),
        (|w| w.transfer.shape = vec![3], "shape"),
        (|w| w.transfer.bytes = u64::MAX, "bytes"),
    ];
    for (spoil, part) in cases {
        let mut agent = agent();
        step(&mut agent, Input::Connected);
        let mut welcome = welcome();
        spoil(&mut welcome);
        let outputs = hear(&mut agent, welcome);
        assert!(
            matches!(&outputs[..], [Output::Stop(Stop::Unfit(why))] if why.contains(part)),
            "{outputs:?}"
        );
    }
    let mut agent = agent();
    step(&mut agent, Input::Connected);
    let mut lying = welcome();
    lying.transfer.samples = 5;
    hear(&mut agent, lying);
    hear(&mut agent, plan(0));
    let bytes = set().pack();
    let outputs = step(&mut agent, Input::Fetched(Digest::of(&bytes), bytes));
    assert!(
        matches!(&outputs[..], [Output::Stop(Stop::Unfit(why))] if why.contains("announced")),
        "{outputs:?}"
    );
    let rejected = Rejected::new(RejectReason::WrongClasses, "classes".to_owned());
    let outputs = hear(&mut at_work(), rejected);
    assert!(matches!(outputs[..], [Output::Stop(Stop::NotWelcome(_))]));
    let goodbye = |back| Goodbye {
        why: "done".to_owned(),
        back,
        after_ms: 7000,
    };
    assert!(matches!(
        hear(&mut at_work(), goodbye(false))[..],
        [Output::Stop(Stop::Finished(_))]
    ));
    assert!(matches!(
        hear(&mut at_work(), goodbye(true))[..],
        [Output::Leave { after, outdated: false, .. }] if after == Duration::from_secs(7)
    ));
}

#[test]
fn a_set_in_hand_is_not_fetched_again_unless_it_is_another() {
    let blob = Digest::of(&set().pack());
    for (held, fetches) in [(blob, 0), (Digest::of(b"another"), 1)] {
        let mut agent = agent();
        agent.hold(held, Arc::new(set().into()));
        let outputs = step(&mut agent, Input::Connected);
        let hello = sent(&outputs);
        assert!(
            matches!(hello[..], [Message::Hello(hello)] if hello.transfer == Some(held)),
            "{hello:?}"
        );
        hear(&mut agent, welcome());
        let outputs = hear(&mut agent, plan(0));
        let fetched = outputs.iter().filter(|output| match output {
            Output::Fetch { blob: asked, .. } => *asked == blob,
            _ => false,
        });
        assert_eq!(fetched.count(), fetches);
    }
}
