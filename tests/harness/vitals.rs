use std::fs;
use std::time::Duration;

/// What the system says of a process (Linux).
#[derive(Clone, Copy, Debug)]
pub struct Vitals {
    /// Bytes of memory that are resident.
    pub resident: u64,
    /// Open file descriptors.
    pub descriptors: usize,
    /// Time that its threads have run, in user and kernel mode.
    pub ran: Duration,
}

impl Vitals {
    /// Those of the process with this id; `None` where it has ended.
    pub fn of(process: u32) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()?;
        let descriptors = fs::read_dir(format!("{folder}/fd")).ok()?.count();
        let stat = fs::read_to_string(format!("{folder}/stat")).ok()?;
        // The program's name, in brackets, may have spaces. Then come the fields from the third on; the 14th
        // and the 15th are times in hundredths of a second (proc(5), USER_HZ).
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks = ticks.map(|field| field.parse::<u64>().ok());
        let ticks = ticks.sum::<Option<u64>>()?;
        Some(Self {
            resident: kib * 1024,
            descriptors,
            ran: Duration::from_millis(10 * ticks),
        })
    }
}
