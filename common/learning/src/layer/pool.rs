use super::{Backward, Forward, Layer};
use crate::kernels::multiversion;

/// The largest of each 2 x 2 square of each channel, in steps of 2; an odd last row or column is
/// left out. The whole gradient goes to the first largest value. Images lie channels last.
pub(crate) struct MaxPool {
    channels: usize,
    height: usize,
    width: usize,
    /// Which of the four it was.
    chosen: Vec<u8>,
}

impl MaxPool {
    /// `height` and `width` are at least 2.
    pub(crate) fn new(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            chosen: Vec::new(),
        }
    }

    /// For each output pixel of a sample, where its square begins.
    fn corners(&self) -> impl Iterator<Item = usize> + use<> {
        let (channels, height, width) = (self.channels, self.height, self.width);
        let row = move |row| (0..width / 2).map(move |column| 2 * (row * width + column));
        (0..height / 2)
            .flat_map(row)
            .map(move |pixel| pixel * channels)
    }
}

multiversion! {
    fn largest(y: &mut [f32], chosen: &mut [u8], above: &[f32], below: &[f32]) {
        let channels = y.len();
        let (first, second) = (&above[..channels], &above[channels..2 * channels]);
        let (third, fourth) = (&below[..channels], &below[channels..2 * channels]);
        let chosen = &mut chosen[..channels];
        for channel in 0..channels {
            let mut best = first[channel];
            let mut which = 0u8;
            for (place, next) in [second[channel], third[channel], fourth[channel]].into_iter().enumerate() {
                let more = next > best;
                best = if more { next } else { best };
                which = if more { place as u8 + 1 } else { which };
            }
            y[channel] = best;
            chosen[channel] = which;
        }
    }
}

multiversion! {
    fn spread(dy: &[f32], chosen: &[u8], above: &mut [f32], below: &mut [f32]) {
        let channels = dy.len();
        let (first, second) = above.split_at_mut(channels);
        let (third, fourth) = below.split_at_mut(channels);
        for (place, out) in [first, second, third, fourth].into_iter().enumerate() {
            for ((out, dy), chosen) in out.iter_mut().zip(dy).zip(chosen) {
                *out = if *chosen == place as u8 { *dy } else { 0.0 };
            }
        }
    }
}

impl Layer for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn output(&self) -> usize {
        self.channels * (self.height / 2) * (self.width / 2)
    }

    fn held(&self) -> usize {
        self.output().div_ceil(4)
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let (channels, line) = (self.channels, self.width * self.channels);
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.resize(y.len(), 0);
        let out = y
            .chunks_exact_mut(channels)
            .zip(chosen.chunks_exact_mut(channels));
        let samples = pass.x.chunks_exact(self.height * line);
        let squares = samples.flat_map(|x| self.corners().map(move |corner| (x, corner)));
        for ((y, chosen), (x, corner)) in out.zip(squares) {
            let (above, below) = (&x[corner..], &x[corner + line..]);
            largest(y, chosen, &above[..2 * channels], &below[..2 * channels]);
        }
        self.chosen = chosen;
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        let (channels, line) = (self.channels, self.width * self.channels);
        if self.height % 2 + self.width % 2 > 0 {
            dx.fill(0.0);
        }
        let size = self.output();
        let samples = dx.chunks_exact_mut(self.height * line);
        let given = pass
            .dy
            .chunks_exact(size)
            .zip(self.chosen.chunks_exact(size));
        for (dx, (dy, chosen)) in samples.zip(given) {
            let given = dy.chunks_exact(channels).zip(chosen.chunks_exact(channels));
            for (corner, (dy, chosen)) in self.corners().zip(given) {
                let (above, below) = dx[corner..corner + line + 2 * channels].split_at_mut(line);
                spread(dy, chosen, &mut above[..2 * channels], below);
            }
        }
    }
}

/// The mean of each channel over all pixels.
pub(crate) struct GlobalPool {
    channels: usize,
    area: usize,
}

impl GlobalPool {
    pub(crate) fn new(channels: usize, area: usize) -> Self {
        Self { channels, area }
    }
}

impl Layer for GlobalPool {
    fn name(&self) -> &'static str {
        "global-pool"
    }

    fn output(&self) -> usize {
        self.channels
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        let samples = pass.x.chunks_exact(self.channels * self.area);
        y.fill(0.0);
        for (x, y) in samples.zip(y.chunks_exact_mut(self.channels)) {
            crate::kernels::add_rows(y, x);
            y.iter_mut().for_each(|y| *y /= self.area as f32);
        }
    }

    fn backward(&mut self, pass: Backward<'_>, _: &mut [f32], dx: Option<&mut [f32]>) {
        let Some(dx) = dx else { return };
        let share = (self.area as f32).recip();
        pass.dy.iter_mut().for_each(|dy| *dy *= share);
        let samples = dx.chunks_exact_mut(self.channels * self.area);
        for (dx, dy) in samples.zip(pass.dy.chunks_exact(self.channels)) {
            dx.chunks_exact_mut(self.channels)
                .for_each(|pixel| pixel.copy_from_slice(dy));
        }
    }
}
