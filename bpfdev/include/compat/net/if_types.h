/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <net/if_types.h> for Linux: the kinds of interface a sdl_type can name.
 *
 * The values are not the BSDs' but those of ARPHRD_ in <net/if_arp.h>, because
 * that is what sdl_type holds: see <net/if_dl.h>.
 */
#ifndef _NET_IF_TYPES_H_
#define _NET_IF_TYPES_H_

#define IFT_ETHER 1	/* ARPHRD_ETHER; wireless, bridges and VLANs too */
#define IFT_ARCNET 7	/* ARPHRD_ARCNET */
#define IFT_FRELAY 15	/* ARPHRD_DLCI */
#define IFT_ATM 19	/* ARPHRD_ATM */
#define IFT_IEEE1394 24	/* ARPHRD_IEEE1394 */
#define IFT_INFINIBAND 32	/* ARPHRD_INFINIBAND */
#define IFT_SLIP 256	/* ARPHRD_SLIP */
#define IFT_X25 271	/* ARPHRD_X25 */
#define IFT_PPP 512	/* ARPHRD_PPP */
#define IFT_HDLC 513	/* ARPHRD_HDLC */
#define IFT_LAPB 516	/* ARPHRD_LAPB */
#define IFT_GIF 768	/* ARPHRD_TUNNEL, IPv4 in IPv4 */
#define IFT_LOOP 772	/* ARPHRD_LOOPBACK */
#define IFT_LOCALTALK 773	/* ARPHRD_LOCALTLK */
#define IFT_FDDI 774	/* ARPHRD_FDDI */
#define IFT_STF 776	/* ARPHRD_SIT, IPv6 in IPv4 */
#define IFT_HIPPI 780	/* ARPHRD_HIPPI */
#define IFT_ISO88025 800	/* ARPHRD_IEEE802_TR */
#define IFT_IEEE80211 801	/* ARPHRD_IEEE80211, 802.11 frames */
#define IFT_TUNNEL 0xfffe	/* ARPHRD_NONE: tun, WireGuard */

/* No interface of Linux has these.  Each is a value of its own, so that a switch can have them all. */

#define IFT_OTHER (0xc000 + 1)
#define IFT_1822 (0xc000 + 2)
#define IFT_HDH1822 (0xc000 + 3)
#define IFT_X25DDN (0xc000 + 4)
#define IFT_ISO88023 (0xc000 + 7)
#define IFT_ISO88024 (0xc000 + 8)
#define IFT_ISO88026 (0xc000 + 10)
#define IFT_STARLAN (0xc000 + 11)
#define IFT_P10 (0xc000 + 12)
#define IFT_P80 (0xc000 + 13)
#define IFT_HY (0xc000 + 14)
#define IFT_SDLC (0xc000 + 17)
#define IFT_T1 (0xc000 + 18)
#define IFT_CEPT (0xc000 + 19)
#define IFT_ISDNBASIC (0xc000 + 20)
#define IFT_ISDNPRIMARY (0xc000 + 21)
#define IFT_PTPSERIAL (0xc000 + 22)
#define IFT_EON (0xc000 + 25)
#define IFT_XETHER (0xc000 + 26)
#define IFT_NSIP (0xc000 + 27)
#define IFT_ULTRA (0xc000 + 29)
#define IFT_DS3 (0xc000 + 30)
#define IFT_SIP (0xc000 + 31)
#define IFT_RS232 (0xc000 + 33)
#define IFT_PARA (0xc000 + 34)
#define IFT_ARCNETPLUS (0xc000 + 36)
#define IFT_MIOX25 (0xc000 + 38)
#define IFT_SONET (0xc000 + 39)
#define IFT_X25PLE (0xc000 + 40)
#define IFT_ISO88022LLC (0xc000 + 41)
#define IFT_SMDSDXI (0xc000 + 43)
#define IFT_FRELAYDCE (0xc000 + 44)
#define IFT_V35 (0xc000 + 45)
#define IFT_HSSI (0xc000 + 46)
#define IFT_MODEM (0xc000 + 48)
#define IFT_AAL5 (0xc000 + 49)
#define IFT_SONETPATH (0xc000 + 50)
#define IFT_SONETVT (0xc000 + 51)
#define IFT_SMDSICIP (0xc000 + 52)
#define IFT_PROPVIRTUAL (0xc000 + 53)
#define IFT_PROPMUX (0xc000 + 54)
#define IFT_IEEE80212 (0xc000 + 55)
#define IFT_FIBRECHANNEL (0xc000 + 56)
#define IFT_L2VLAN (0xc000 + 135)
#define IFT_L3IPVLAN (0xc000 + 136)
#define IFT_L3IPXVLAN (0xc000 + 137)
#define IFT_USB (0xc000 + 160)
#define IFT_IEEE8023ADLAG (0xc000 + 161)
#define IFT_BRIDGE (0xc000 + 209)
#define IFT_PVC (0xc000 + 241)
#define IFT_FAITH (0xc000 + 242)
#define IFT_ENC (0xc000 + 244)
#define IFT_PFLOG (0xc000 + 245)
#define IFT_PFSYNC (0xc000 + 246)
#define IFT_CARP (0xc000 + 247)
#define IFT_BLUETOOTH (0xc000 + 248)
#define IFT_IPXIP (0xc000 + 249)
#define IFT_MBIM (0xc000 + 250)
#define IFT_WIREGUARD (0xc000 + 251)

#endif /* !_NET_IF_TYPES_H_ */
