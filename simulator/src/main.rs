//! temporary
use fedistill_learning::*;
use fedistill_protocol::*;
use fedistill_simulator::*;
use std::sync::Arc;
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (partition, method, transport, seed) = (&a[1], &a[2], &a[3], a[4].parse().unwrap());
    let (train, test) =
        Dataset::mnist(std::path::Path::new("fixtures/fashion-mnist-mini")).unwrap();
    let teacher: TeacherSource = a[5].parse().unwrap();
    let labelled = match teacher {
        TeacherSource::Train(n) => n,
        _ => 0,
    };
    let world = World::share_out(
        &train,
        test,
        Sizes {
            clients: 10,
            public: 0.3,
            labelled,
        },
        partition.parse().unwrap(),
        seed,
    )
    .unwrap();
    let plan = Plan {
        method: fedistill_federation::method::by_name(method)
            .unwrap()
            .into(),
        rounds: 15,
        training: fedistill_federation::Training {
            private_epochs: 3,
            distillation_epochs: 3,
            batch: 50,
            optimiser: Optimiser::Sgd {
                learning_rate: 0.1,
                momentum: 0.0,
            },
        },
        rows: 1000,
        precision: Precision::F16,
        models: vec![Architecture::MlpS],
        transport: if transport == "quic" {
            Transport::Quic
        } else {
            Transport::Memory
        },
        threads: 2,
        seed,
    };
    let t = world
        .teacher(&teacher, Architecture::MlpM, seed)
        .unwrap()
        .map(|t| Box::new(t) as Box<dyn fedistill_coordinator::Teacher>);
    let o = simulate(&world, &plan, t, Progress::silent())
        .await
        .unwrap();
    let m = o.students.iter().map(|e| e.accuracy).sum::<f64>() / 10.0;
    println!(
        "{partition} {method} seed {seed}: students {:.3} teacher {:?} -> {:?}  {:.1}s digest {} net {:?}",
        m,
        o.teacher_before.map(|e| e.accuracy),
        o.teacher_after.map(|e| e.accuracy),
        o.seconds,
        &o.digest[..8],
        o.network
    );
    println!("{:?}", o.rounds.last().map(|r| (r.up[0], r.down[0])));
    let _ = Arc::new(());
}
