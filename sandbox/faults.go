package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// faults is how Klavi misbehaves at the moment.
type faults struct {
	Latency            string         `json:"latency,omitzero"`             // every API answer waits so long
	Outage             jsontext.Value `json:"outage,omitzero"`              // true, or the HTTP status that everything is answered with
	RevokedToken       bool           `json:"revoked_token,omitzero"`       // ends the access tokens issued so far
	RefusedCredentials bool           `json:"refused_credentials,omitzero"` // POST /auth answers 401
	SingleToken        bool           `json:"single_token,omitzero"`        // a new login ends older access tokens
	UnsignedDeliveries bool           `json:"unsigned_deliveries,omitzero"`
	WrongSignature     bool           `json:"wrong_signature,omitzero"`
	Duplicates         bool           `json:"duplicates,omitzero"`       // every delivery is made twice
	ExpireInString     bool           `json:"expire_in_string,omitzero"` // expireIn is "1800"
	Nonsense           bool           `json:"nonsense,omitzero"`         // 200 with a body that is not JSON

	latency time.Duration
	outage  int
}

const faultNames = "latency, outage, revoked_token, refused_credentials, single_token, unsigned_deliveries, wrong_signature, " +
	"duplicates, expire_in_string, nonsense"

// parseFaults reads the whole set: what is not named is off.
func parseFaults(body []byte) (faults, error) {
	var f faults
	err := json.Unmarshal(body, &f, json.RejectUnknownMembers(true))
	if errors.Is(err, json.ErrUnknownName) {
		name := ""
		if se, ok := errors.AsType[*json.SemanticError](err); ok {
			name = strings.TrimPrefix(string(se.JSONPointer), "/")
		}
		return f, fmt.Errorf("unknown fault %s: want %s", name, faultNames)
	}
	if err != nil {
		return f, fmt.Errorf("want a JSON object of faults (%s): %w", faultNames, err)
	}
	if f.Latency != "" {
		f.latency, err = time.ParseDuration(f.Latency)
		if err != nil || f.latency < 0 {
			return f, fmt.Errorf("latency: %q is not a duration: want one such as 250ms or 2s", f.Latency)
		}
	}
	f.outage, err = parseOutage(f.Outage)
	return f, err
}

func parseOutage(v jsontext.Value) (int, error) {
	switch v.Kind() {
	case 't':
		return http.StatusServiceUnavailable, nil
	case 'f', 'n':
		return 0, nil
	case '0':
		var status int
		if json.Unmarshal(v, &status) == nil && status >= 400 && status <= 599 {
			return status, nil
		}
	}
	if len(v) == 0 {
		return 0, nil
	}
	return 0, fmt.Errorf("outage: %s: want true, false or an HTTP status from 400 to 599", v)
}
