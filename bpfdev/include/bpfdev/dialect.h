/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Which system's device a program is compiled for: see <net/bpf.h>. */
#ifndef _BPFDEV_DIALECT_H_
#define _BPFDEV_DIALECT_H_

#if defined(BPFDEV_ABI_FREEBSD) + defined(BPFDEV_ABI_NETBSD) + defined(BPFDEV_ABI_OPENBSD) + \
	defined(BPFDEV_ABI_DRAGONFLY) + defined(BPFDEV_ABI_MACOS) > 1
#error "more than one BPFDEV_ABI_ define: a source file is compiled for one system (or, without any, for the dialect linux)"
#endif

#if !defined(BPFDEV_ABI_FREEBSD) && !defined(BPFDEV_ABI_NETBSD) && !defined(BPFDEV_ABI_OPENBSD) && \
	!defined(BPFDEV_ABI_DRAGONFLY) && !defined(BPFDEV_ABI_MACOS)
#define _BPFDEV_LINUX
#endif

#if defined(BPFDEV_ABI_DRAGONFLY) && !defined(__LP64__)
#error "BPFDEV_ABI_DRAGONFLY: DragonFly is a 64-bit system, it has no layouts for a 32-bit program"
#endif

#endif /* !_BPFDEV_DIALECT_H_ */
