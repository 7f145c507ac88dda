//! Where clients stay silent.

use crate::codec::{Decode, Encode};

/// On which transfer samples a client stays silent: a row of zeros.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub enum Silence {
    /// On none.
    Never,
    /// Where the most likely class, by what came down about the sample or, where nothing did, by the
    /// student itself, is none that the client holds.
    Foreign,
    /// Where the largest probability is below this.
    Unsure {
        /// 0 to 1.
        least: f32,
    },
    /// Where the density of the client's own samples, relative to even noise, is low: KuLSIF
    /// (Kanamori et al. 2012) as Selective-FD has it (Shao et al. 2023).
    Unlike {
        /// Width of the Gaussian kernel, above 0.
        width: f32,
        /// Share of the client's own samples that lie below the bar, 0 to 1.
        quantile: f32,
    },
    /// Where the nearest of the client's own samples is further away than for this share of its own.
    Far {
        /// 0 to 1.
        quantile: f32,
    },
    /// As [`Self::Unlike`], which is this with the default [`Density`].
    UnlikeBy {
        /// Width of the Gaussian kernel, above 0.
        width: f32,
        /// Share of the client's own samples that lie below the bar, 0 to 1.
        quantile: f32,
        /// How densities are estimated.
        density: Density,
    },
}

impl Silence {
    /// Whether who hears it learns of a client's own samples, beside what its student says.
    pub fn tells_own(&self) -> bool {
        match self {
            Self::Never | Self::Unsure { .. } => false,
            Self::Foreign | Self::Unlike { .. } | Self::UnlikeBy { .. } | Self::Far { .. } => true,
        }
    }

    /// Whether a client can keep to it.
    pub(crate) fn is_within(&self) -> bool {
        let is_kernel = |width: f32, quantile: f32| {
            width.is_finite() && width > 0.0 && (0.0..=1.0).contains(&quantile)
        };
        match *self {
            Self::Never | Self::Foreign => true,
            Self::Unsure { least } => (0.0..=1.0).contains(&least),
            Self::Unlike { width, quantile } => is_kernel(width, quantile),
            Self::UnlikeBy {
                width,
                quantile,
                density,
            } => is_kernel(width, quantile) && density.is_within(),
            Self::Far { quantile } => (0.0..=1.0).contains(&quantile),
        }
    }
}

/// How the density of a client's own samples, relative to even noise, is estimated.
#[derive(Clone, Copy, Debug, Decode, Encode, PartialEq)]
pub struct Density {
    /// Points of even noise, 1 to [`Self::MOST_NOISE`].
    pub noise: u16,
    /// Share of the own samples that sets the bar and has no part in the estimate, 0 to 0.5; at 0, all
    /// of them do both.
    pub held_out: f32,
    /// What is added to the diagonal of the kernel's matrix, 0 to [`Self::MOST_LAMBDA`]; at 0, one by
    /// the square root of the number of points.
    pub lambda: f32,
    /// Own samples that are looked at, chosen by chance where there are more; 1 to [`Self::MOST_OWN`].
    pub own: u16,
}

impl Density {
    /// A client solves a system of as many equations.
    pub const MOST_NOISE: u16 = 2000;
    /// Beyond it nothing of the samples is left in the estimate.
    pub const MOST_LAMBDA: f32 = 1e6;
    /// A client holds each transfer sample against as many.
    pub const MOST_OWN: u16 = 10_000;

    /// `lambda`, or what stands for 0.
    pub fn ridge(&self) -> f64 {
        match self.lambda > 0.0 {
            true => self.lambda.into(),
            false => f64::from(self.noise).powf(-0.5),
        }
    }

    fn is_within(&self) -> bool {
        (1..=Self::MOST_NOISE).contains(&self.noise)
            && (0.0..=0.5).contains(&self.held_out)
            && (0.0..=Self::MOST_LAMBDA).contains(&self.lambda)
            && (1..=Self::MOST_OWN).contains(&self.own)
    }
}

impl Default for Density {
    fn default() -> Self {
        Self {
            noise: 250,
            held_out: 0.1,
            lambda: 0.0,
            own: 600,
        }
    }
}
