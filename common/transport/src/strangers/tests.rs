use std::fmt::Write;

use tokio::time::{advance, sleep};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::*;

/// Lines of a log.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_one_line_a_minute() {
    let lines = Lines::default();
    let _here = tracing::subscriber::set_default(lines.clone());
    let strangers = Strangers::over("TCP");
    let knock = |port: u16| strangers.refused(([127, 0, 0, 1], port).into(), "silent");
    knock(1);
    let first = lines.taken();
    assert!(
        first.len() == 1 && first[0].contains("127.0.0.1:1") && first[0].contains("silent"),
        "{first:?}"
    );
    for port in 2..1002 {
        knock(port);
    }
    sleep(EACH / 2).await;
    assert!(lines.taken().is_empty());
    sleep(EACH / 2 + Duration::from_millis(1)).await;
    let summary = lines.taken();
    assert!(
        summary.len() == 1 && summary[0].contains("1000 more") && summary[0].contains(":1001"),
        "{summary:?}"
    );
    // The minute begins anew with what was said.
    knock(5);
    assert!(lines.taken().is_empty());
    sleep(EACH).await;
    assert_eq!(lines.taken().len(), 1);
    // Nobody comes: nothing is said. Then the first one is told of again.
    advance(EACH * 10).await;
    assert!(lines.taken().is_empty());
    knock(6);
    let again = lines.taken();
    assert!(again.len() == 1 && again[0].contains(":6"), "{again:?}");
}
