//! Where a plugin's memory comes from: lists of free blocks by size, over the system's allocator.
//!
//! Handling an event makes some dozens of small allocations, which are all freed at its end; the
//! system's allocator takes a quarter of a small handler's time for them. Here one is a step in a
//! list. Blocks go back to their list and never to the system, which does not matter: the host
//! replaces instances by their age and by their memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    ptr,
};

/// The smallest block; each list has blocks of twice the size of the one before.
const SMALLEST: usize = 16;
/// How many lists there are. What is larger than the blocks of the last one, which have 1 KiB, or
/// aligned to more than the smallest block, is the system's.
const LISTS: usize = 7;
/// How much is taken from the system at once.
const CHUNK: usize = 16 << 10;

struct Free {
    next: *mut Free,
}

struct State {
    free: [*mut Free; LISTS],
    /// What is left of the chunk that was taken last.
    rest: *mut u8,
    rest_bytes: usize,
}

/// See the module's page.
pub(crate) struct Recycling(UnsafeCell<State>);

// SAFETY: a component of this contract has one thread: the target has none to start, and the host
// calls it for one event at a time.
unsafe impl Sync for Recycling {}

impl Recycling {
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(State {
            free: [ptr::null_mut(); LISTS],
            rest: ptr::null_mut(),
            rest_bytes: 0,
        }))
    }
}

/// Returns which list has the blocks for a layout; none for what is the system's.
fn list_of(layout: Layout) -> Option<usize> {
    if layout.align() > SMALLEST || layout.size() > SMALLEST << (LISTS - 1) {
        return None;
    }
    let blocks = layout.size().max(1).next_power_of_two().max(SMALLEST) / SMALLEST;
    Some(blocks.trailing_zeros() as usize)
}

// SAFETY: a block is handed out to one owner at a time. It is as large as its list says, which is at
// least what was asked for, and aligned to SMALLEST, since chunks are and every block is a multiple
// of it. The layout that a block comes back with is the one it was asked for with, so it comes back
// to the list, or to the system, that it came from.
unsafe impl GlobalAlloc for Recycling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = list_of(layout) else {
            return unsafe { System.alloc(layout) };
        };
        let state = unsafe { &mut *self.0.get() };
        let Some(head) = state.free.get_mut(list) else {
            return ptr::null_mut();
        };
        if head.is_null() {
            return unsafe { state.carve(SMALLEST << list) };
        }
        let block = *head;
        *head = unsafe { (*block).next };
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let state = unsafe { &mut *self.0.get() };
        match list_of(layout).and_then(|list| state.free.get_mut(list)) {
            None => unsafe { System.dealloc(block, layout) },
            Some(head) => {
                let block: *mut Free = block.cast();
                unsafe { (*block).next = *head };
                *head = block;
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return ptr::null_mut();
        };
        match (list_of(layout), list_of(wanted)) {
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (before, after) if before == after => block,
            _ => {
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    unsafe {
                        ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                }
                moved
            }
        }
    }
}

impl State {
    /// Takes a block from the chunk, or from a new one; what the old one had left is lost.
    #[cold]
    unsafe fn carve(&mut self, bytes: usize) -> *mut u8 {
        if self.rest_bytes < bytes {
            let Ok(layout) = Layout::from_size_align(CHUNK, SMALLEST) else {
                return ptr::null_mut();
            };
            let chunk = unsafe { System.alloc(layout) };
            if chunk.is_null() {
                return chunk;
            }
            (self.rest, self.rest_bytes) = (chunk, CHUNK);
        }
        let block = self.rest;
        self.rest = unsafe { block.add(bytes) };
        self.rest_bytes -= bytes;
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn each_size_has_the_list_whose_blocks_hold_it() {
        for (size, list) in [
            (0, Some(0)),
            (16, Some(0)),
            (17, Some(1)),
            (1_024, Some(6)),
            (1_025, None),
        ] {
            assert_eq!(list_of(layout(size, 8)), list, "{size}");
        }
        assert_eq!(list_of(layout(8, 32)), None);
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let memory = Recycling::new();
        unsafe {
            let first = memory.alloc(layout(100, 8));
            let second = memory.alloc(layout(100, 8));
            assert!(first != second);
            memory.dealloc(first, layout(100, 8));
            assert_eq!(memory.alloc(layout(65, 1)), first);
        }
    }

    #[test]
    fn what_is_written_stays_through_growth_and_does_not_overlap() {
        let memory = Recycling::new();
        let mut blocks = Vec::new();
        for number in 0..3_000_usize {
            let size = 1 + number * 7 % 1_500;
            let block = unsafe { memory.alloc(layout(size, 16)) };
            assert_eq!(block as usize % 16, 0);
            unsafe { block.write_bytes(number as u8, size) };
            blocks.push((block, size, number as u8));
        }
        for (block, size, _) in &mut blocks {
            let grown = *size * 2;
            *block = unsafe { memory.realloc(*block, layout(*size, 16), grown) };
            let fill = unsafe { block.read() };
            unsafe { block.add(*size).write_bytes(fill, grown - *size) };
            *size = grown;
        }
        for (block, size, fill) in blocks {
            let bytes = unsafe { std::slice::from_raw_parts(block, size) };
            assert!(bytes.iter().all(|byte| *byte == fill));
            unsafe { memory.dealloc(block, layout(size, 16)) };
        }
    }
}
