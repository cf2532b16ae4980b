//! The process's own memory: what it has done with goes back to the kernel.
//!
//! The C library keeps freed memory for the next time. An agent needs most of its memory at its start, to read the eBPF object and the
//! kernel's type information, and for answers about thousands of ports; then little for weeks. What is said of `malloc` here is about
//! glibc's; another library's is left as it is. The program's own file is read by the page, and what was read stays mapped.

use std::ptr;

use procfs::process::{MMPermissions, MMapPath, Process};

/// Makes `free` give memory back from now on. Call it before there are threads: each would have a heap of its own.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes that are worth a system call: what is as long has pages of its own, and what is free at the heap's end is given back.
        /// glibc's own value, which it would otherwise raise to 64 MiB with every long allocation that is freed.
        const WORTH: libc::c_int = 128 << 10;
        // SAFETY: these change how later calls of malloc and free behave, and may be made at any time.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_MMAP_THRESHOLD, WORTH);
            libc::mallopt(libc::M_TRIM_THRESHOLD, WORTH);
            // Small pieces are joined with their neighbours as soon as they are freed, or they keep large ones from going back.
            libc::mallopt(libc::M_MXFAST, 0);
        }
    }
}

/// Gives back all that is free now, between what is in use, too.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only touches what nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the program's code as far as it was run up to now; what is run again, the kernel maps again from its page cache. Where that
/// cannot be done, all stays as it is.
pub fn let_go_of_code() {
    let mapped = Process::myself().and_then(|own| own.maps());
    for map in mapped.into_iter().flatten() {
        let code = MMPermissions::READ | MMPermissions::EXECUTE | MMPermissions::PRIVATE;
        if map.perms == code && matches!(map.pathname, MMapPath::Path(_)) {
            // SAFETY: what may be run is mapped from a file and was never written to, so it comes back as it is.
            unsafe { let_go(map.address.0 as usize, map.address.1 as usize) };
        }
    }
}

/// The same for data of the program's file that is hardly wanted again.
pub(super) fn let_go_of(data: &'static [u8]) {
    let page = procfs::page_size() as usize;
    let start = data.as_ptr().addr();
    let (first, end) = (start.next_multiple_of(page), (start + data.len()) / page * page);
    if first < end {
        // SAFETY: nobody has written to these pages: constant bytes hold no addresses that the loader would have put in.
        unsafe { let_go(first, end) };
    }
}

/// # Safety
///
/// The pages must be mapped privately from a file and differ from it nowhere.
unsafe fn let_go(first: usize, end: usize) {
    // SAFETY: the caller sees to it that the next access finds the same bytes.
    unsafe { libc::madvise(ptr::with_exposed_provenance_mut(first), end - first, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// KiB of the program's file that are mapped now.
    fn mapped() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    #[test]
    fn what_was_let_go_is_there_all_the_same() {
        static DATA: &[u8] = include_bytes!("memory.rs");
        let text = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel/memory.rs")).unwrap();
        assert!(DATA == text);
        let before = mapped();
        let_go_of(DATA);
        let_go_of_code();
        let after = mapped();
        assert!(after < before, "{before} KiB before, {after} after");
        assert!(DATA == text);
    }
}
