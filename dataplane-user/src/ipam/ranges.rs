//! A set of numbers, kept as disjoint ranges: finding the lowest absent one is one look-up.

use std::collections::BTreeMap;

/// A set of numbers. Adding, removing and finding the lowest absent one take O(log n).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RangeSet {
    /// First to last number of each range; neighbours are always merged.
    ranges: BTreeMap<u128, u128>,
}

impl RangeSet {
    /// Whether the number is in the set.
    pub fn contains(&self, value: u128) -> bool {
        self.range_of(value).is_some()
    }

    /// Adds a number; false if it was there.
    pub fn insert(&mut self, value: u128) -> bool {
        if self.contains(value) {
            return false;
        }
        let mut first = value;
        let mut last = value;
        if let Some(before) = value.checked_sub(1).and_then(|before| self.range_of(before)) {
            first = before.0;
        }
        if let Some(after) = value.checked_add(1)
            && let Some(end) = self.ranges.remove(&after)
        {
            last = end;
        }
        self.ranges.insert(first, last);
        true
    }

    /// Removes a number; false if it was not there.
    pub fn remove(&mut self, value: u128) -> bool {
        let Some((first, last)) = self.range_of(value) else { return false };
        self.ranges.remove(&first);
        if first < value {
            self.ranges.insert(first, value - 1);
        }
        if value < last {
            self.ranges.insert(value + 1, last);
        }
        true
    }

    /// The lowest number from `first` to `last` that is not in the set.
    pub fn lowest_absent(&self, first: u128, last: u128) -> Option<u128> {
        let lowest = match self.range_of(first) {
            None => first,
            Some((_, end)) => end.checked_add(1)?,
        };
        (lowest <= last).then_some(lowest)
    }

    /// How many numbers from `first` to `last` are in the set.
    pub fn count(&self, first: u128, last: u128) -> u128 {
        let ranges = self.ranges.range(..=last).rev().take_while(|(_, end)| **end >= first);
        let within = ranges.map(|(start, end)| (*end).min(last) - (*start).max(first));
        within.fold(0, |sum: u128, width| sum.saturating_add(width).saturating_add(1))
    }

    fn range_of(&self, value: u128) -> Option<(u128, u128)> {
        let (&first, &last) = self.ranges.range(..=value).next_back()?;
        (value <= last).then_some((first, last))
    }
}

impl FromIterator<u128> for RangeSet {
    fn from_iter<I: IntoIterator<Item = u128>>(values: I) -> Self {
        let mut set = RangeSet::default();
        for value in values {
            set.insert(value);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_numbers() {
        let mut set: RangeSet = [0, u128::MAX].into_iter().collect();
        assert_eq!(set.lowest_absent(0, 5), Some(1));
        assert_eq!(set.lowest_absent(u128::MAX, u128::MAX), None);
        assert!(set.remove(u128::MAX) && set.remove(0));
        assert_eq!(set, RangeSet::default());
    }

    proptest! {
        /// Whatever is done to it, it behaves like a plain set, and ranges stay merged.
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec((any::<bool>(), 0u128..40), 0..200), from in 0u128..40) {
            let mut ranges = RangeSet::default();
            let mut plain = BTreeSet::new();
            for (insert, value) in steps {
                if insert {
                    prop_assert_eq!(ranges.insert(value), plain.insert(value));
                } else {
                    prop_assert_eq!(ranges.remove(value), plain.remove(&value));
                }
            }
            for value in 0..41 {
                prop_assert_eq!(ranges.contains(value), plain.contains(&value));
            }
            prop_assert_eq!(ranges.lowest_absent(from, 39), (from..40).find(|value| !plain.contains(value)));
            prop_assert_eq!(ranges.count(from, 39), plain.range(from..40).count() as u128);
            prop_assert_eq!(ranges.count(0, from), plain.range(..=from).count() as u128);
            let merged = plain.iter().filter(|value| !plain.contains(&(**value + 1))).count();
            prop_assert_eq!(ranges.ranges.len(), merged);
        }
    }
}
