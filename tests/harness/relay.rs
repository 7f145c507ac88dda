//! A bad network between clients and their coordinator: a relay of datagrams that loses, delays, repeats and
//! reorders them, is narrow, cuts the line, and changes its own addresses.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fedistill_learning::seed;
use rand::RngExt;
use rand_chacha::ChaCha20Rng;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// What a relay does to each datagram, either way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Share that is lost, 0 to 1.
    pub loss: f64,
    /// Share that comes twice, 0 to 1.
    pub repeated: f64,
    /// How long it takes at least.
    pub delay: Duration,
    /// By how much more at most, at random: what takes longer is overtaken.
    pub jitter: Duration,
    /// Bytes a second that all clients together get through, each way; what would wait for longer than a
    /// quarter of a second is lost. As fast as it goes, where nothing is said.
    pub rate: Option<f64>,
}

/// How long datagrams queue before a narrow line.
const QUEUE: Duration = Duration::from_millis(250);

/// A relay; the line is dead once it is dropped.
pub struct Relay {
    address: String,
    line: Arc<Line>,
    _runtime: Runtime,
}

struct Line {
    weather: Weather,
    cut: AtomicBool,
    /// How often its addresses have changed.
    moved: AtomicU32,
    up: Way,
    down: Way,
}

/// One direction of a narrow line.
#[derive(Default)]
struct Way {
    /// When what was let in is through.
    free: Mutex<Option<Instant>>,
}

impl Way {
    /// How long it takes until so many bytes are through; `None` where there is no room for them.
    fn takes(&self, bytes: usize, rate: Option<f64>) -> Option<Duration> {
        let Some(rate) = rate else {
            return Some(Duration::ZERO);
        };
        let now = Instant::now();
        let mut free = self.free.lock().unwrap();
        let begins = free.map_or(now, |free| free.max(now));
        if begins - now > QUEUE {
            return None;
        }
        let ends = begins + Duration::from_secs_f64(bytes as f64 / rate);
        *free = Some(ends);
        Some(ends - now)
    }
}

impl Relay {
    /// A relay to the coordinator at `to`.
    pub fn new(to: &str, weather: Weather, seed: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let front = runtime.block_on(UdpSocket::bind("127.0.0.1:0")).unwrap();
        let address = front.local_addr().unwrap().to_string();
        let line = Arc::new(Line {
            weather,
            cut: AtomicBool::default(),
            moved: AtomicU32::default(),
            up: Way::default(),
            down: Way::default(),
        });
        let to = to.parse().unwrap();
        runtime.spawn(relay(Arc::new(front), to, Arc::clone(&line), seed));
        Self {
            address,
            line,
            _runtime: runtime,
        }
    }

    /// Where clients find it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Cuts the line, or mends it.
    pub fn cut(&self, cut: bool) {
        self.line.cut.store(cut, Ordering::Relaxed);
    }

    /// Clients seem to come from other addresses from now on, as behind a translator that has forgotten them.
    pub fn move_away(&self) {
        self.line.moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// The largest datagram.
const DATAGRAM: usize = 65_536;

async fn relay(front: Arc<UdpSocket>, to: SocketAddr, line: Arc<Line>, seed: u64) {
    let mut rng = seed::stream(seed, "relay/up");
    let mut ways: HashMap<SocketAddr, (u32, Arc<UdpSocket>)> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let Ok((length, from)) = front.recv_from(&mut buffer).await else {
            continue;
        };
        let moved = line.moved.load(Ordering::Relaxed);
        let known = ways.get(&from).filter(|(when, _)| *when == moved);
        let socket = match known {
            Some((_, socket)) => Arc::clone(socket),
            None => {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                let back = Back {
                    front: Arc::clone(&front),
                    socket: Arc::clone(&socket),
                    client: from,
                    line: Arc::clone(&line),
                    rng: seed::stream(seed, &format!("relay/down/{moved}")),
                };
                tokio::spawn(back.run());
                ways.insert(from, (moved, Arc::clone(&socket)));
                socket
            }
        };
        line.pass(&line.up, &mut rng, &buffer[..length], socket, to);
    }
}

/// The way back to one client.
struct Back {
    front: Arc<UdpSocket>,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    line: Arc<Line>,
    rng: ChaCha20Rng,
}

impl Back {
    async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            // Nobody listens there for a while where a coordinator was killed.
            let Ok(length) = self.socket.recv(&mut buffer).await else {
                continue;
            };
            let front = Arc::clone(&self.front);
            let (line, to) = (Arc::clone(&self.line), self.client);
            line.pass(&line.down, &mut self.rng, &buffer[..length], front, to);
        }
    }
}

impl Line {
    /// Lets a datagram through as the weather is.
    fn pass(
        &self,
        way: &Way,
        rng: &mut ChaCha20Rng,
        bytes: &[u8],
        socket: Arc<UdpSocket>,
        to: SocketAddr,
    ) {
        let Weather {
            loss,
            repeated,
            delay,
            jitter,
            rate,
        } = self.weather;
        let times = 1 + usize::from(rng.random_bool(repeated));
        for _ in 0..times {
            let (lost, more) = (rng.random_bool(loss), rng.random::<f64>());
            if lost || self.cut.load(Ordering::Relaxed) {
                continue;
            }
            let Some(through) = way.takes(bytes.len(), rate) else {
                continue;
            };
            let (bytes, socket) = (bytes.to_vec(), Arc::clone(&socket));
            tokio::spawn(async move {
                tokio::time::sleep(through + delay + jitter.mul_f64(more)).await;
                // What does not arrive is lost, as on any network.
                let _ = socket.send_to(&bytes, to).await;
            });
        }
    }
}
