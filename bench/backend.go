package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// What the backend and those who call it agree on.
const (
	accessKey   = "bench-access-key"
	secretKey   = "bench-secret-key"
	accessToken = "bench.access.token"
	linkToken   = "bench.link.token"
	taxID       = "25872252137"
)

// consents is what GET /consents answers, 2 KB of it (docs.klavi.ai/connect/get-consent-list).
var consents = list(2<<10, func(i int) string {
	return fmt.Sprintf(`{"consentId":"f55c899f-11eb-231f-97c4-%012d","linkId":"gPuKXrCJU05J4k","externalTrackId":"4b2c1648-231f-11eb-97c4-%012d",`+
		`"personalTaxId":"%s","businessTaxId":"","institutionCode":"%03d","status":"AUTHORISED","permissionsApply":["ACCOUNTS_ALL","CREDIT_CARDS_ALL"],`+
		`"permissionsGranted":["ACCOUNTS_ALL"],"expireAt":"2024-12-08T09:19:19.253Z","createdAt":"2023-12-08T09:19:19.253Z",`+
		`"updatedAt":"2023-12-08T09:19:19.253Z"}`, i, i, taxID, i)
})

// institutions is what GET /links/institutions answers, 20 KB of it (docs.klavi.ai/connect/get-institution-list).
var institutions = list(20<<10, func(i int) string {
	return fmt.Sprintf(`{"institutionCode":"%03d","name":"Banco %03d S.A.","avatar":"https://logos.example.com/%03d.svg","isBeta":false,"isOutage":false,`+
		`"institutionType":1,"businessType":"BOTH","availableResources":["REGISTRATION","ACCOUNTS","CREDIT_CARDS"],`+
		`"organizationName":"BANCO %03d S.A.","organizationId":"4b2c1648-231f-11eb-97c4-%012d"}`, i, i, i, i, i)
})

// list returns a JSON array of at least size bytes.
func list(size int, item func(int) string) []byte {
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(item(i))
	}
	b.WriteByte(']')
	return []byte(b.String())
}

// serveBackend is the program that stands in for Klavi, and for the service
// that takes reports.
func serveBackend(address string) error {
	return http.ListenAndServe(address, http.HandlerFunc(backend)) //nolint:gosec // on loopback, for minutes
}

// backend answers what is ready, to the right credential only.
func backend(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET /data/v1/consents":
		answer(w, r, accessToken, consents)
	case "GET /data/v1/links/institutions":
		answer(w, r, linkToken, institutions)
	case "POST /data/v1/auth":
		answer(w, r, "", []byte(`{"accessToken":"`+accessToken+`","expireIn":7200}`))
	case "POST /data/v1/links":
		answer(w, r, accessToken, []byte(`{"linkId":"gPuKXrCJU05J4k","linkToken":"`+linkToken+`",`+
			`"linkURL":"https://open.example.com/?v=`+linkToken+`","expireIn":1800}`))
	case "POST /reports":
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != r.ContentLength {
			http.Error(w, "the report is not whole", http.StatusBadRequest)
		}
	default:
		http.NotFound(w, r)
	}
}

func answer(w http.ResponseWriter, r *http.Request, token string, body []byte) {
	if token != "" {
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if scheme != "Bearer" || got != token {
			http.Error(w, "another token is needed", http.StatusUnauthorized)
			return
		}
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body)
}
