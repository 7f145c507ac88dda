//! A round that goes on from its log.

use std::time::Instant;

use super::{CorruptLog, Event, Member, Output, Round, RoundConfig, Stage, parts};

impl Round {
    /// Goes on with a round from its log: the contributions in it count, everyone else is awaited
    /// from `now` on, and the quorum's times run anew from `now`; those of its last extension, where
    /// it was extended.
    ///
    /// # Errors
    /// A log that no round with this configuration can have written.
    pub fn restore(
        config: RoundConfig,
        now: Instant,
        log: impl IntoIterator<Item = Event>,
    ) -> Result<Self, CorruptLog> {
        let id = config.id;
        let log: Vec<Event> = log.into_iter().collect();
        // What it has may be in parts although late ones are refused by now.
        let folds = |event: &Event| matches!(event, Event::Awaits(_) | Event::Folded { .. });
        let parts = parts(config.folding.is_some() || log.iter().any(folds));
        let mut round = Self::blank(config, now, parts);
        let mut log = log.into_iter().enumerate();
        if log.next().map(|(_, event)| event) != Some(Event::Opened(id)) {
            return Err(CorruptLog::NotOpened(id));
        }
        for (index, event) in log {
            round
                .replay(event)
                .map_err(|why| CorruptLog::Event { index, id, why })?;
        }
        round.judge(now);
        Ok(round)
    }

    /// What the log has next.
    fn replay(&mut self, event: Event) -> Result<(), String> {
        if self.stage == Stage::Over {
            return Err("it follows the end of the round".to_owned());
        }
        match event {
            Event::Opened(_) => return Err("the round opens twice".to_owned()),
            Event::Taken {
                client,
                blob,
                answers,
            } => {
                if matches!(self.members.get(&client), Some(Member::Taken { .. })) {
                    return Err(format!("client {client} contributes twice"));
                }
                self.add(&client, answers.as_ref())
                    .map_err(|rejected| rejected.detail)?;
                let durable = true;
                self.members.set(&client, Member::Taken { blob, durable });
            }
            Event::Awaits(before) => {
                if self.members.taken() > 0 || self.extensions > 0 || !self.late.is_empty() {
                    return Err("it does not follow the opening".to_owned());
                }
                if let Some(folding) = &mut self.late.folding {
                    folding.before = Some(*before);
                }
            }
            Event::Folded {
                client,
                folded,
                parts,
                answers,
            } => {
                if self.late.has(&client) {
                    return Err(format!("client {client} is late twice"));
                }
                self.fold(parts, &answers)
                    .map_err(|rejected| rejected.detail)?;
                self.late.hold(client, folded, true);
            }
            Event::Extended(number) => {
                if number != self.extensions + 1 {
                    let before = self.extensions;
                    return Err(format!("extension {number} follows extension {before}"));
                }
                self.extensions = number;
            }
            Event::Committed(contributors) => {
                let committed = self.committed();
                if committed.contributors != contributors {
                    return Err("it names other contributors than the log has".to_owned());
                }
                self.stage = Stage::Over;
                self.outputs.push_back(Output::Committed(committed));
            }
            Event::Aborted => {
                self.stage = Stage::Over;
                self.outputs.push_back(Output::Aborted);
            }
        }
        Ok(())
    }
}
