//! Numbers by key over the last steps; bounded: of too many keys, those with the most requests stay.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// What a key has in one step.
pub(super) trait Weighed: Copy + Default {
    /// Its part in the decision who stays.
    fn weight(&self) -> u64;
}

/// The last `STEPS` steps of at most `most` keys.
pub(super) struct Table<K, V, const STEPS: usize> {
    rows: HashMap<K, Row<V>, RandomState>,
    most: usize,
    /// Where the last step is in every row.
    at: usize,
}

struct Row<V> {
    /// A ring.
    cells: Box<[V]>,
    /// Of all cells.
    weight: u64,
}

impl<K: Clone + Eq + Hash + Ord, V: Weighed, const STEPS: usize> Table<K, V, STEPS> {
    pub(super) fn new(most: usize) -> Self {
        Self { rows: HashMap::default(), most, at: 0 }
    }

    /// One more step, with what each key has in it. Keys without anything in all steps go.
    pub(super) fn step(&mut self, new: impl IntoIterator<Item = (K, V)>) {
        self.at = (self.at + 1) % STEPS;
        let at = self.at;
        for row in self.rows.values_mut() {
            row.put(at, V::default());
        }
        let mut newcomers = Vec::new();
        for (key, value) in new {
            match self.rows.get_mut(&key) {
                Some(row) => row.put(at, value),
                None if value.weight() > 0 => newcomers.push((key, value)),
                None => {}
            }
        }
        self.rows.retain(|_, row| row.weight > 0);
        let over = (self.rows.len() + newcomers.len()).saturating_sub(self.most);
        if over > 0 {
            self.drop_lightest(over, &mut newcomers);
        }
        for (key, value) in newcomers {
            let mut row = Row { cells: vec![V::default(); STEPS].into(), weight: 0 };
            row.put(at, value);
            self.rows.insert(key, row);
        }
    }

    fn drop_lightest(&mut self, over: usize, newcomers: &mut Vec<(K, V)>) {
        let rows = self.rows.iter().map(|(key, row)| (row.weight, key));
        let new = newcomers.iter().map(|(key, value)| (value.weight(), key));
        let mut all: Vec<_> = rows.chain(new).collect();
        all.sort_unstable();
        let (weight, key) = all[over - 1];
        let last = (weight, key.clone());
        let stays = |weight: u64, key: &K| (weight, key) > (last.0, &last.1);
        newcomers.retain(|(key, value)| stays(value.weight(), key));
        self.rows.retain(|key, row| stays(row.weight, key));
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.keys()
    }

    /// The last `count` steps of a key, oldest first; empty ones where it is not kept.
    pub(super) fn of(&self, key: &K, count: usize) -> Vec<V> {
        let count = count.min(STEPS);
        let first = self.at + 1 + STEPS - count;
        match self.rows.get(key) {
            Some(row) => (first..first + count).map(|index| row.cells[index % STEPS]).collect(),
            None => vec![V::default(); count],
        }
    }

    /// Every key with all that it has, put together by `plus`; in order.
    pub(super) fn sums(&self, plus: impl Fn(V, V) -> V) -> Vec<(K, V)> {
        let sum = |row: &Row<V>| row.cells.iter().copied().fold(V::default(), &plus);
        let mut all: Vec<_> = self.rows.iter().map(|(key, row)| (key.clone(), sum(row))).collect();
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl<V: Weighed> Row<V> {
    fn put(&mut self, at: usize, value: V) {
        self.weight = self.weight - self.cells[at].weight() + value.weight();
        self.cells[at] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighed for u64 {
        fn weight(&self) -> u64 {
            *self
        }
    }

    fn table(most: usize) -> Table<&'static str, u64, 3> {
        Table::new(most)
    }

    #[test]
    fn a_row_is_a_ring_and_goes_when_it_is_empty() {
        let mut table = table(2);
        for value in 1..=4 {
            table.step([("a", value)]);
        }
        assert_eq!((table.of(&"a", 3), table.of(&"a", 2)), (vec![2, 3, 4], vec![3, 4]));
        assert_eq!(table.sums(|a, b| a + b), [("a", 9)]);
        (0..2).for_each(|_| table.step([]));
        assert_eq!(table.of(&"a", 3), [4, 0, 0]);
        table.step([("a", 0)]);
        assert_eq!((table.keys().count(), table.of(&"a", 3)), (0, vec![0, 0, 0]));
    }

    #[test]
    fn the_heaviest_stay_whether_old_or_new() {
        let mut table = table(2);
        table.step([("a", 5), ("b", 1)]);
        table.step([("a", 5), ("c", 4), ("d", 3)]);
        assert_eq!(table.sums(|a, b| a + b), [("a", 10), ("c", 4)]);
        table.step([("d", 4)]);
        assert_eq!(table.keys().count(), 2);
        table.step([("e", 20), ("f", 30)]);
        assert_eq!(table.sums(|a, b| a + b), [("e", 20), ("f", 30)]);
    }
}
