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
    use std::fs::File;
    use std::ops::Range;
    use std::os::unix::fs::FileExt;

    use super::*;

    /// How many of the pages between two addresses are mapped now (`/proc/PID/pagemap`, bit 63). What is mapped from a file counts
    /// differently from one file system to another elsewhere.
    fn mapped(addresses: Range<usize>) -> usize {
        let page = procfs::page_size() as usize;
        let mut entries = vec![0; (addresses.len() / page) * 8];
        let at = (addresses.start / page * 8) as u64;
        File::open("/proc/self/pagemap").unwrap().read_exact_at(&mut entries, at).unwrap();
        entries.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count()
    }

    #[test]
    fn data_that_was_let_go_is_there_all_the_same() {
        /// In the program's file, and larger than a few pages.
        static DATA: [u8; 1 << 18] = [7; 1 << 18];
        let page = procfs::page_size() as usize;
        let start = DATA.as_ptr().addr().next_multiple_of(page);
        let whole = start..start + DATA.len() - page;
        assert!(DATA.iter().all(|byte| *byte == 7));
        assert_eq!(mapped(whole.clone()), whole.len() / page);
        let_go_of(&DATA);
        assert_eq!(mapped(whole), 0);
        assert!(DATA.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn code_that_was_let_go_runs_all_the_same() {
        let maps = Process::myself().and_then(|own| own.maps()).unwrap();
        let code = maps.into_iter().find(|map| (map.address.0..map.address.1).contains(&(mapped as *const () as u64)));
        let code = code.map(|map| map.address.0 as usize..map.address.1 as usize).unwrap();
        let before = mapped(code.clone());
        let_go_of_code();
        let after = mapped(code);
        assert!(after < before, "{before} pages before, {after} after");
    }
}
