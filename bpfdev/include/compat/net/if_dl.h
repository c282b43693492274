/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/if_dl.h> for Linux: link-level addresses as BSD's getifaddrs(3) gives
 * them.
 *
 * AF_LINK is AF_PACKET and struct sockaddr_dl lies over the struct sockaddr_ll
 * that Linux's getifaddrs(3) gives, member by member: so a program that looks
 * for AF_LINK, sdl_index, sdl_type (see <net/if_types.h>), sdl_alen and
 * LLADDR() finds what it does on a BSD.
 *
 * What is not as there: no sdl_len, because no Linux address has a length in
 * it.  The interface's name is not in sdl_data but in ifa_name only: sdl_nlen
 * is 0.  There are no link_addr(3) and link_ntoa(3).
 *
 * A program that has a case AF_PACKET for Linux and a case AF_LINK for the BSDs
 * in one switch must not see this file: it would have one case twice.
 */
#ifndef _NET_IF_DL_H_
#define _NET_IF_DL_H_

#include <sys/socket.h>

#ifndef AF_LINK
#define AF_LINK AF_PACKET
#endif
#ifndef PF_LINK
#define PF_LINK AF_LINK
#endif

/* At most as long as what getifaddrs(3) allocates, in glibc and musl: 24 bytes of address, InfiniBand has 20. */
struct sockaddr_dl {
	sa_family_t sdl_family;		/* sll_family: AF_LINK */
	unsigned char sdl_nlen;		/* sll_protocol, which is 0 there */
	unsigned char sdl_slen;
	int sdl_index;			/* sll_ifindex */
	unsigned short sdl_type;	/* sll_hatype, an IFT_ value */
	unsigned char sdl_pkttype;	/* sll_pkttype; no BSD has it */
	unsigned char sdl_alen;		/* sll_halen, bytes of address */
	char sdl_data[24];		/* sll_addr */
} __attribute__((__may_alias__));

#define LLADDR(s) ((char *)((s)->sdl_data + (s)->sdl_nlen))
#define CLLADDR(s) ((const char *)((s)->sdl_data + (s)->sdl_nlen))
#define LLINDEX(s) ((s)->sdl_index)

#endif /* !_NET_IF_DL_H_ */
