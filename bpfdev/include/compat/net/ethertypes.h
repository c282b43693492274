/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/ethertypes.h> for Linux: numbers of the type field of an Ethernet
 * header, in host byte order.
 *
 * The first ones have the text of <net/ethernet.h>, which may be included
 * before or after.
 */
#ifndef _NET_ETHERTYPES_H_
#define _NET_ETHERTYPES_H_

#define ETHERTYPE_PUP 0x0200
#define ETHERTYPE_SPRITE 0x0500
#define ETHERTYPE_IP 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_REVARP 0x8035
#define ETHERTYPE_AT 0x809B
#define ETHERTYPE_AARP 0x80F3
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPX 0x8137
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_LOOPBACK 0x9000
#define ETHERTYPE_TRAIL 0x1000
#define ETHERTYPE_NTRAILER 16

/* Programs bring their own definitions of these. */
#ifndef ETHERTYPE_8023
#define ETHERTYPE_8023 0x0004	/* IEEE 802.3 packet */
#endif
#ifndef ETHERTYPE_X25
#define ETHERTYPE_X25 0x0805	/* X.25 level 3 */
#endif
#ifndef ETHERTYPE_MOPDL
#define ETHERTYPE_MOPDL 0x6001	/* DEC MOP dump and load */
#endif
#ifndef ETHERTYPE_MOPRC
#define ETHERTYPE_MOPRC 0x6002	/* DEC MOP remote console */
#endif
#ifndef ETHERTYPE_DECNET
#define ETHERTYPE_DECNET 0x6003	/* DECnet IV */
#endif
#ifndef ETHERTYPE_LAT
#define ETHERTYPE_LAT 0x6004	/* DEC LAT */
#endif
#ifndef ETHERTYPE_TRANSETHER
#define ETHERTYPE_TRANSETHER 0x6558	/* transparent Ethernet bridging */
#endif
#ifndef ETHERTYPE_ATALK
#define ETHERTYPE_ATALK 0x809B	/* AppleTalk */
#endif
#ifndef ETHERTYPE_VMTP
#define ETHERTYPE_VMTP 0x805B	/* Stanford V */
#endif
#ifndef ETHERTYPE_SLOW
#define ETHERTYPE_SLOW 0x8809	/* slow protocols: LACP */
#endif
#ifndef ETHERTYPE_PPP
#define ETHERTYPE_PPP 0x880B	/* PPP */
#endif
#ifndef ETHERTYPE_MPLS
#define ETHERTYPE_MPLS 0x8847	/* MPLS unicast */
#endif
#ifndef ETHERTYPE_MPLS_MCAST
#define ETHERTYPE_MPLS_MCAST 0x8848	/* MPLS multicast */
#endif
#ifndef ETHERTYPE_PPPOEDISC
#define ETHERTYPE_PPPOEDISC 0x8863	/* PPPoE discovery */
#endif
#ifndef ETHERTYPE_PPPOE
#define ETHERTYPE_PPPOE 0x8864	/* PPPoE session */
#endif
#ifndef ETHERTYPE_PAE
#define ETHERTYPE_PAE 0x888E	/* 802.1X */
#endif
#ifndef ETHERTYPE_AOE
#define ETHERTYPE_AOE 0x88A2	/* ATA over Ethernet */
#endif
#ifndef ETHERTYPE_QINQ
#define ETHERTYPE_QINQ 0x88A8	/* 802.1ad service tag */
#endif
#ifndef ETHERTYPE_PREAUTH
#define ETHERTYPE_PREAUTH 0x88C7	/* 802.11i pre-authentication */
#endif
#ifndef ETHERTYPE_LLDP
#define ETHERTYPE_LLDP 0x88CC	/* LLDP */
#endif
#ifndef ETHERTYPE_MACSEC
#define ETHERTYPE_MACSEC 0x88E5	/* 802.1AE */
#endif
#ifndef ETHERTYPE_PBB
#define ETHERTYPE_PBB 0x88E7	/* 802.1ah */
#endif
#ifndef ETHERTYPE_PTP
#define ETHERTYPE_PTP 0x88F7	/* IEEE 1588 */
#endif
#ifndef ETHERTYPE_CFM
#define ETHERTYPE_CFM 0x8902	/* 802.1ag */
#endif
#ifndef ETHERTYPE_FCOE
#define ETHERTYPE_FCOE 0x8906	/* Fibre Channel over Ethernet */
#endif
#ifndef ETHERTYPE_NSH
#define ETHERTYPE_NSH 0x894F	/* network service header */
#endif
#ifndef ETHERTYPE_BATMAN
#define ETHERTYPE_BATMAN 0x4305	/* B.A.T.M.A.N. */
#endif
#ifndef ETHERTYPE_MAX
#define ETHERTYPE_MAX 0xFFFF
#endif

#endif /* !_NET_ETHERTYPES_H_ */
