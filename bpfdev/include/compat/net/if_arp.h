/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/if_arp.h> of the C library, with what BSD's has beyond it: the names of
 * reverse and inverse ARP's operations, and where the addresses behind a
 * struct arphdr begin.
 */
#ifndef _BPFDEV_COMPAT_IF_ARP_H_
#define _BPFDEV_COMPAT_IF_ARP_H_
#pragma GCC system_header /* #include_next is an extension: no warning for it */
#include_next <net/if_arp.h>

#define ARPOP_REVREQUEST 3
#define ARPOP_REVREPLY 4
#define ARPOP_INVREQUEST 8
#define ARPOP_INVREPLY 9

#define ar_sha(ap) ((char *)((ap) + 1))
#define ar_spa(ap) (ar_sha(ap) + (ap)->ar_hln)
#define ar_tha(ap) (ar_spa(ap) + (ap)->ar_pln)
#define ar_tpa(ap) (ar_tha(ap) + (ap)->ar_hln)

#endif /* !_BPFDEV_COMPAT_IF_ARP_H_ */
