/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Stands before the kernel's <linux/bpf.h> for one reason: to say clearly that
 * it cannot follow <net/bpf.h>.  Otherwise it hands over at once.
 */
#ifdef _NET_BPF_H_
#error "<net/bpf.h> and <linux/bpf.h> (eBPF) define different struct bpf_insn: include them in separate source files"
#else
#pragma GCC system_header /* #include_next is an extension: no warning for it */
#include_next <linux/bpf.h>
#endif
