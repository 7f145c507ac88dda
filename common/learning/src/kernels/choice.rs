use std::sync::OnceLock;

/// A set of instructions that kernels are compiled for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kernels {
    /// AVX-512F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON, which every 64-bit ARM processor has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What every processor of the target has, as the compiler makes use of it.
    Portable,
}

impl Kernels {
    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }
}

/// What this processor can run, the fastest first.
pub(crate) fn available() -> Vec<Kernels> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        if avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            sets.push(Kernels::Avx512);
        }
        if avx2 {
            sets.push(Kernels::Avx2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    sets.push(Kernels::Neon);
    sets.push(Kernels::Portable);
    sets
}

/// The set in use.
pub(crate) fn kernels() -> Kernels {
    #[cfg(test)]
    if let Some(set) = FORCED.get() {
        return set;
    }
    static CHOSEN: OnceLock<Kernels> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let sets = available();
        let wish = std::env::var("FEDISTILL_KERNELS").ok();
        let wished = sets.iter().find(|set| Some(set.name()) == wish.as_deref());
        wished
            .or_else(|| sets.first())
            .copied()
            .unwrap_or(Kernels::Portable)
    })
}

#[cfg(test)]
thread_local! {
    static FORCED: std::cell::Cell<Option<Kernels>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` on this thread with `set`, which has to be available.
#[cfg(test)]
pub(crate) fn with_kernels<T>(set: Kernels, work: impl FnOnce() -> T) -> T {
    assert!(available().contains(&set));
    FORCED.set(Some(set));
    let result = work();
    FORCED.set(None);
    result
}

/// Compiles a function of plain loops once for each set of instructions, and calls the one in use.
///
/// Loops that treat each element alike are vectorised by the compiler; it may neither reorder sums
/// nor fuse multiplications and additions, so all of them give the same bits.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
            match $crate::kernels::kernels() {
                // SAFETY: `kernels` gives only what the processor has.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::Kernels::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::kernels::Kernels::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::kernels::Kernels::Neon => body($($arg),*),
                $crate::kernels::Kernels::Portable => body($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;
