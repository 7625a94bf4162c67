// System calls that Swift cannot see, because their headers hide them behind _GNU_SOURCE or a macro.
#ifndef CFILESHIMS_H
#define CFILESHIMS_H

#include "CProcessShims.h"

#include <stdint.h>

/// Reserves `bytes` bytes for the file from its start and makes it that long, so that a full disk shows before the
/// work and not in the middle of it. Falls back to setting the length where the file system cannot reserve.
/// Returns 0 or an errno value.
int cfs_reserve(int descriptor, int64_t bytes);

/// Renames without replacing. Returns 0 or an errno value (EEXIST if `to` is there).
int cfs_rename_exclusive(const char *from, const char *to);

/// Tells the kernel that a range will be read soon, so that it starts fetching. A hint: failure means nothing.
void cfs_prefetch(int descriptor, int64_t offset, int64_t bytes);

/// Tells the kernel that a range will not be needed again, so that a large copy does not push everything else out
/// of the page cache. A hint: failure means nothing.
void cfs_drop_cache(int descriptor, int64_t offset, int64_t bytes);

/// Flushes a file's data to the device: F_FULLFSYNC on macOS, fsync elsewhere. Returns 0 or an errno value.
int cfs_synchronize(int descriptor);

/// Takes an exclusive lock on a file, held until the descriptor is closed. Does not wait. Returns 0 or an errno value:
/// EWOULDBLOCK if another process holds it.
int cfs_lock(int descriptor);

/// Raises the limit of open files to what the system allows this process without asking.
void cfs_raise_open_file_limit(void);

#endif
