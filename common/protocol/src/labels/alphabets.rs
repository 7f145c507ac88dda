//! What coders code, for who measures them.

use super::{Answers, Form, Peaks, Top, blocks, halves, parts, planes, wholes};
use crate::Precision;

impl Answers {
    /// The symbols that values become at this precision, before any coder: a list for each alphabet. At eight bits and less
    /// a symbol a value; of [`Precision::Peak`] three a row, which class is the largest and the steps of both its levels; at
    /// 16 bits and more a list for each of their bytes, the highest first; of the largest values alone the same of those
    /// and of what the others are on average, after whether each class is one of them, by how many still are to be. Rows that say nothing are left out, but where
    /// values are parts of a whole.
    pub fn symbols(&self, precision: Precision) -> Vec<Vec<u32>> {
        let most = |bits| (u16::MAX >> (16 - bits)) as u8;
        let width = self.classes as usize;
        let spoken = || self.only(&self.speaks().collect::<Vec<_>>()).values;
        let mut found = Vec::new();
        match self.kind.form(precision) {
            Form::Floats => {
                return match precision {
                    Precision::Top(count) => {
                        Top::new(self.kind, self.classes, count).symbols(&spoken())
                    }
                    Precision::F32 => planes::symbols(&wholes(&spoken())),
                    _ => planes::symbols(&halves(&spoken())),
                };
            }
            Form::Peaks => return Peaks::closest(&spoken(), width).symbols(),
            Form::Parts(bits) => parts::of_rows(&self.values, width, most(bits), &mut found),
            Form::Steps(bits) => {
                blocks::quantise(&spoken(), most(bits), &mut Vec::new(), &mut found);
            }
        }
        vec![found.into_iter().map(u32::from).collect()]
    }
}
