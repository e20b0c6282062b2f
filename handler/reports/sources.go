package reports

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// sources are ranges of addresses.
type sources []netip.Prefix

func parseSources(texts []string) (sources, error) {
	var s sources
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
				prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
			}
			s = append(s, prefix.Masked())
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return nil, fmt.Errorf("%q is neither an address such as 203.0.113.7 nor a range such as 203.0.113.0/24", text)
		}
		addr = addr.Unmap()
		s = append(s, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return s, nil
}

func (s sources) contain(addr netip.Addr) bool {
	for _, prefix := range s {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

func (s sources) everybody() bool {
	for _, prefix := range s {
		if prefix.Bits() == 0 {
			return true
		}
	}
	return false
}

// clientAddr returns the address of the client, which is not that of a proxy
// that the server trusts. It is the zero Addr where there is none.
func clientAddr(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, _ := netip.ParseAddr(text)
	return addr.Unmap().WithZone("")
}

// remoteAddr returns the client's address in the form of [http.Request.RemoteAddr].
// The port is 0 where a proxy hides it.
func remoteAddr(r *http.Request) string {
	client := clientAddr(r)
	if !client.IsValid() {
		return r.RemoteAddr
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err == nil && peer.Addr().Unmap().WithZone("") == client {
		return r.RemoteAddr
	}
	return net.JoinHostPort(client.String(), "0")
}
