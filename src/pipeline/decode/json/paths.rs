//! The fields that somebody asked for, as one tree: a record is compared with all of them in one pass.

use std::collections::HashMap;

use super::walk::Cell;

/// Children that are compared one by one; beyond, an index is faster.
const FEW: usize = 8;

/// A place in the tree.
pub(super) type Node = usize;

/// The record itself.
pub(super) const ROOT: Node = 0;

/// The paths.
#[derive(Debug)]
pub(super) struct Paths {
    branches: Vec<Branch>,
    slots: Vec<Slot>,
    cells: usize,
}

/// Where one or several paths have come to.
#[derive(Debug, Default)]
struct Branch {
    /// Takes the value that stands here, where a path ends here.
    cell: Option<usize>,
    children: Vec<(String, Node)>,
    /// The same by name, where they are many.
    index: HashMap<String, Node>,
}

/// Where the value of one field is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Under its name as a whole, dots and all.
    whole: usize,
    /// At the end of its steps.
    stepped: Option<usize>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { branches: vec![Branch::default()], slots: Vec::new(), cells: 0 }
    }
}

impl Paths {
    /// Asks for a field; the number under which its value is found.
    pub(super) fn claim(&mut self, text: &str, steps: &[String]) -> usize {
        let whole = self.lead_to(&[text]);
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let stepped = (steps.len() > 1).then(|| self.lead_to(&steps));
        let slot = Slot { whole, stepped };
        self.slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            self.slots.push(slot);
            self.slots.len() - 1
        })
    }

    /// The cell at the end of these steps.
    fn lead_to(&mut self, steps: &[&str]) -> usize {
        let mut node = ROOT;
        for step in steps {
            node = self.child(node, step).unwrap_or_else(|| self.grow(node, step));
        }
        let next = self.cells;
        let Some(branch) = self.branches.get_mut(node) else { return next };
        let cell = *branch.cell.get_or_insert(next);
        self.cells = next.max(cell + 1);
        cell
    }

    fn grow(&mut self, node: Node, step: &str) -> Node {
        let new = self.branches.len();
        self.branches.push(Branch::default());
        if let Some(branch) = self.branches.get_mut(node) {
            branch.children.push((step.to_owned(), new));
            if branch.children.len() > FEW {
                branch.index = branch.children.iter().cloned().collect();
            }
        }
        new
    }

    /// Where a key leads from here.
    #[inline]
    pub(super) fn child(&self, node: Node, key: &str) -> Option<Node> {
        let branch = self.branches.get(node)?;
        if branch.children.len() > FEW {
            return branch.index.get(key).copied();
        }
        branch.children.iter().find(|(name, _)| name == key).map(|(_, child)| *child)
    }

    /// What takes the value that stands here.
    #[inline]
    pub(super) fn cell(&self, node: Node) -> Option<usize> {
        self.branches.get(node)?.cell
    }

    /// Every cell here and below.
    pub(super) fn each_below(&self, node: Node, visit: &mut dyn FnMut(usize)) {
        let Some(branch) = self.branches.get(node) else { return };
        if let Some(cell) = branch.cell {
            visit(cell);
        }
        for (_, child) in &branch.children {
            self.each_below(*child, visit);
        }
    }

    /// How many cells there are.
    pub(super) const fn cells(&self) -> usize {
        self.cells
    }

    /// The value of a slot.
    #[inline]
    pub(super) fn value(&self, slot: usize, cells: &[Cell]) -> Cell {
        let Some(Slot { whole, stepped }) = self.slots.get(slot) else { return Cell::Absent };
        let cell = |index: &usize| cells.get(*index).copied().unwrap_or_default();
        match (cell(whole), stepped) {
            (Cell::Absent, Some(stepped)) => cell(stepped),
            (found, _) => found,
        }
    }
}
