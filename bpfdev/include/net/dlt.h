/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/dlt.h> for Linux: link types, what BIOCGDLT answers.
 * https://www.tcpdump.org/linktypes.html says what each means.
 *
 * Names and numbers are FreeBSD's, or with BPFDEV_ABI_OPENBSD and the like
 * (see <net/bpf.h>) those of that system: each has its own list, in
 * <bpfdev/openbsd/dlt.h> and so on, and they do differ.
 *
 * The whole list is here because <pcap.h> leaves its own out once <net/bpf.h>
 * was included. Where <pcap/dlt.h> came first:
 *   without a define its values stay. Three of them differ, DLT_SLIP_BSDOS,
 *   DLT_PPP_BSDOS and DLT_PFSYNC; no Linux interface has any of these types.
 *   With one, that system's list replaces it: OpenBSD's DLT_RAW is 14, and that
 *   is what its device says.
 */
#ifndef _NET_DLT_H_
#define _NET_DLT_H_

#include <bpfdev/dialect.h>

#ifndef _BPFDEV_LINUX
#include <bpfdev/undef_dlt.h>
#ifndef lib_pcap_dlt_h
#define lib_pcap_dlt_h /* and <pcap/dlt.h> does not change them back */
#endif
#endif

#if defined(BPFDEV_ABI_NETBSD)
#include <bpfdev/netbsd/dlt.h>
#elif defined(BPFDEV_ABI_OPENBSD)
#include <bpfdev/openbsd/dlt.h>
#elif defined(BPFDEV_ABI_DRAGONFLY)
#include <bpfdev/dragonfly/dlt.h>
#elif defined(BPFDEV_ABI_MACOS)
#include <bpfdev/macos/dlt.h>
#else
#include <bpfdev/freebsd/dlt.h>
#endif

#ifdef _BPFDEV_LINUX
/* Registered, but not in FreeBSD's list. */
#ifndef DLT_HDLC
#define DLT_HDLC 112
#endif
#ifndef DLT_IEEE802_15_4_WITHFCS
#define DLT_IEEE802_15_4_WITHFCS 195
#endif
#ifndef DLT_SERCOS_MONITOR
#define DLT_SERCOS_MONITOR 277
#endif
#ifndef DLT_OPENVIZSLA
#define DLT_OPENVIZSLA 278
#endif
#ifndef DLT_EBHSCR
#define DLT_EBHSCR 279
#endif
#ifndef DLT_VPP_DISPATCH
#define DLT_VPP_DISPATCH 280
#endif
#ifndef DLT_DSA_TAG_BRCM
#define DLT_DSA_TAG_BRCM 281
#endif
#ifndef DLT_DSA_TAG_BRCM_PREPEND
#define DLT_DSA_TAG_BRCM_PREPEND 282
#endif
#ifndef DLT_IEEE802_15_4_TAP
#define DLT_IEEE802_15_4_TAP 283
#endif
#ifndef DLT_DSA_TAG_DSA
#define DLT_DSA_TAG_DSA 284
#endif
#ifndef DLT_DSA_TAG_EDSA
#define DLT_DSA_TAG_EDSA 285
#endif
#ifndef DLT_ELEE
#define DLT_ELEE 286
#endif
#ifndef DLT_Z_WAVE_SERIAL
#define DLT_Z_WAVE_SERIAL 287
#endif
#ifndef DLT_USB_2_0
#define DLT_USB_2_0 288
#endif
#ifndef DLT_ATSC_ALP
#define DLT_ATSC_ALP 289
#endif
#ifndef DLT_ETW
#define DLT_ETW 290
#endif
#ifndef DLT_NETANALYZER_NG
#define DLT_NETANALYZER_NG 291
#endif
#ifndef DLT_ZBOSS_NCP
#define DLT_ZBOSS_NCP 292
#endif
#endif /* _BPFDEV_LINUX */

#endif /* !_NET_DLT_H_ */
