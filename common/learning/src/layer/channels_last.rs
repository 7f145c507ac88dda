use super::{Backward, Forward, Layer};
use crate::kernels::{channels_last, transpose};

/// Images as they come, channels first, to channels last.
pub(crate) struct ChannelsLast {
    channels: usize,
    area: usize,
}

impl ChannelsLast {
    pub(crate) fn new(channels: usize, area: usize) -> Self {
        Self { channels, area }
    }
}

impl Layer for ChannelsLast {
    fn name(&self) -> &'static str {
        "channels-last"
    }

    fn output(&self) -> usize {
        self.channels * self.area
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        channels_last(pass.x, y, self.channels, self.area);
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        let size = self.output();
        for (dx, dy) in dx.chunks_exact_mut(size).zip(pass.dy.chunks_exact(size)) {
            transpose(dx, dy, self.area, self.channels);
        }
    }
}
