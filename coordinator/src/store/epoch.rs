/// Which process of all that ever had a store one is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Epoch {
    /// From 1; no two processes have the same, and later ones have larger ones. 0 of nobody.
    pub number: u64,
    /// That of the process for which the store was last put back, on purpose, to what it had been before;
    /// 0 if it never was. What was promised under an earlier epoch may have been forgotten then.
    pub rolled_back: u64,
}
