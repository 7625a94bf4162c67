// What a tool needs of the system before Swift's runtime and the libraries below it start threads and open files: they
// wait for ever, or end by a signal, where there is no room for that.
#ifndef CSTARTCHECK_H
#define CSTARTCHECK_H

/// The address space (in bytes) and the open files that no tool can do without. A process that has less of either ends
/// before its `main` with a message and exit code 74, as it does where reading or writing fails.
enum {
    csc_address_space = 64 << 20,
    csc_open_files = 16,
};

/// Has the check linked into the program.
void csc_require(void);

#endif
