//! Takes part in a federation with a model and data of one's own: see `device.rs`.
#![allow(unreachable_pub, missing_docs, reason = "an example")]

mod device;

use device::{Flowers, Regression};
use fedistill_client::{Client, Policy, PrivateData, Student, StudentError, Watcher};
use fedistill_learning::Evaluation;
use fedistill_protocol::{Phase, RoundId};
use fedistill_transport::{Peer, identity::Identity, quic::QuicDialer};

const CLASSES: [&str; 3] = ["setosa", "versicolor", "virginica"];

fn read(path: &str) -> Result<Flowers, StudentError> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let flower = |line: &str| -> Option<([f32; 4], u32)> {
        let (lengths, class) = line.rsplit_once(',')?;
        let lengths: Result<Vec<f32>, _> = lengths.split(',').map(str::parse).collect();
        let class = CLASSES.iter().position(|known| *known == class)?;
        Some((lengths.ok()?.try_into().ok()?, class as u32))
    };
    let flowers: Option<Vec<_>> = text.lines().skip(1).map(flower).collect();
    let flowers = flowers.ok_or_else(|| format!("{path}: a line is no flower"))?;
    Ok(Flowers(flowers, CLASSES.map(str::to_owned).to_vec()))
}

/// Tells how good the student is whenever it has learnt.
struct Test {
    samples: Vec<f32>,
    labels: Vec<u32>,
}

impl Watcher for Test {
    fn phase_done(&mut self, id: RoundId, phase: &Phase, _: bool, student: &mut dyn Student) {
        let shape = vec![4];
        let elements = fedistill_protocol::Elements::F32(self.samples.clone());
        let samples = fedistill_learning::Samples::new(shape, elements);
        if let Some(Ok(logits)) = samples.map(|samples| student.logits(&samples)) {
            let evaluation = Evaluation::of(&logits, &self.labels, CLASSES.len());
            println!("round {id}, after {:?} data: {evaluation}", phase.data);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), StudentError> {
    let [_, bundle, data, test, address] = &std::env::args().collect::<Vec<_>>()[..] else {
        return Err("usage: own-student BUNDLE DATA TEST HOST:PORT".into());
    };
    let identity = Identity::load(bundle.as_ref())?;
    let Peer::Client { federation, name } = identity.peer().clone() else {
        return Err(format!("{bundle}: not a client's bundle").into());
    };
    let dialer = QuicDialer::new(address.clone(), None, &identity)?;
    let (student, data, test) = (Regression([[0.0; 5]; 3], 0.0), read(data)?, read(test)?);
    let (mut samples, mut labels) = (Vec::new(), Vec::new());
    test.batch(
        &(0..test.len()).collect::<Vec<_>>(),
        &mut samples,
        &mut labels,
    )?;
    let client = Client::new(federation, name, student, data, Policy::default(), dialer)?
        .watched_by(Test { samples, labels });
    println!("{:?}", client.run().await?);
    Ok(())
}
