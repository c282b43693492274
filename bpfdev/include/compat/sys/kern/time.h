/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <sys/kern/time.h> of GNU/kFreeBSD, which had FreeBSD's struct bintime.  Debian's
 * libpcap includes it before <net/bpf.h>, where struct bintime is here.
 */
