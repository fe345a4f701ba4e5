//! Who comes before whom, where some start after others and stop before them.

/// For each of some services, by its place, those that come right before it. Without circles: whoever would come before itself
/// comes after nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Precedence {
    before: Vec<Vec<usize>>,
}

impl Precedence {
    /// `before` has the places of those that each comes after; places that there are not count for nothing.
    pub(crate) fn new(mut before: Vec<Vec<usize>>) -> Self {
        let count = before.len();
        for others in &mut before {
            others.retain(|&other| other < count);
        }
        let circular: Vec<usize> =
            (0..count).filter(|&place| reachable(&before, place).contains(&place)).collect();
        for place in circular {
            before[place].clear();
        }
        Self { before }
    }

    /// Those that come right before this one.
    pub(crate) fn before(&self, place: usize) -> &[usize] {
        &self.before[place]
    }

    /// Those that this one comes right before.
    pub(crate) fn behind(&self, place: usize) -> impl Iterator<Item = usize> {
        let is_behind = move |(_, others): &(usize, &Vec<usize>)| others.contains(&place);
        self.before.iter().enumerate().filter(is_behind).map(|(behind, _)| behind)
    }

    /// All that come before this one, with what lies between.
    pub(crate) fn all_before(&self, place: usize) -> Vec<usize> {
        reachable(&self.before, place)
    }
}

/// All that come before this one.
fn reachable(before: &[Vec<usize>], place: usize) -> Vec<usize> {
    let mut seen = vec![false; before.len()];
    let mut found = Vec::new();
    let mut open = vec![place];
    while let Some(next) = open.pop() {
        for &other in &before[next] {
            if !std::mem::replace(&mut seen[other], true) {
                found.push(other);
                open.push(other);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Precedence;

    #[test]
    fn what_lies_between_counts() {
        let order = Precedence::new(vec![vec![], vec![0], vec![1, 9], vec![]]);
        let all = [0, 1, 2, 3].map(|place| order.all_before(place));
        assert_eq!(all, [vec![], vec![0], vec![1, 0], vec![]]);
        assert_eq!(order.before(2), [1]);
        let behind = [0, 1, 2, 3].map(|place| order.behind(place).collect::<Vec<_>>());
        assert_eq!(behind, [vec![1], vec![2], vec![], vec![]]);
    }

    #[test]
    fn whoever_would_come_before_itself_comes_after_nobody() {
        let order = Precedence::new(vec![vec![1], vec![2], vec![1], vec![3], vec![0]]);
        assert_eq!([order.before(1), order.before(2), order.before(3)], [&[] as &[usize]; 3]);
        assert_eq!((order.before(0), order.before(4)), (&[1][..], &[0][..]), "behind a circle is not in it");
    }
}
