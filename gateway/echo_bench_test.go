package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkGuard looks through a list of institutions of 20 KB, with keys and an
// access token as they are in production.
func BenchmarkGuard(b *testing.B) {
	k := newFakeKlavi(b)
	random := rand.New(rand.NewPCG(1, 2))
	token := "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + randomText(random, base64URL, 600) + "." + randomText(random, base64URL, 43)
	k.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"accessToken":%q,"expireIn":1800}`, token)
	})
	for _, keys := range []struct{ name, alphabet string }{{"hex", "0123456789abcdef"}, {"letters", base64URL[:62]}} {
		b.Run(keys.name, func(b *testing.B) {
			app, _, err := provisionApp(b, fmt.Sprintf(`{"accounts":{"default":{"base_url":"%s/data/v1","access_key":%q,"secret_key":%q,"accept_secret_keys":[%q]}}}`,
				k.URL, randomText(random, keys.alphabet, 32), randomText(random, keys.alphabet, 32), randomText(random, keys.alphabet, 32)))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = app.Cleanup() }()
			a := app.Accounts["default"]
			if _, err := a.token(b.Context()); err != nil {
				b.Fatal(err)
			}
			list, buffer := institutionList(random, 20_000), make([]byte, 32<<10)
			b.SetBytes(int64(len(list)))
			b.ReportAllocs()
			for b.Loop() {
				body := a.Guard(bytes.NewReader(list))
				for err = nil; err == nil; {
					_, err = body.Read(buffer)
				}
				if !errors.Is(err, io.EOF) {
					b.Fatal(err)
				}
			}
		})
	}
}

func randomText(random *rand.Rand, alphabet string, length int) string {
	text := make([]byte, length)
	for i := range text {
		text[i] = alphabet[random.IntN(len(alphabet))]
	}
	return string(text)
}

// institutionList is an answer as docs.klavi.ai/connect/get-institution-list shows it.
func institutionList(random *rand.Rand, size int) []byte {
	uuid := func() string {
		hex := randomText(random, "0123456789abcdef", 32)
		return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
	}
	list := []byte("[")
	for code := 1; len(list) < size; code++ {
		list = fmt.Appendf(list, `{"institutionCode":"%03d","name":"Banco Comum %d","avatar":"https://klavi-logos.s3.sa-east-1.amazonaws.com/%03d.svg",`+
			`"isBeta":false,"isOutage":false,"institutionType":1,"businessType":"BOTH","availableResources":["REGISTRATION","ACCOUNTS","CREDIT_CARDS",`+
			`"CREDIT_OPERATIONS:LOANS","CREDIT_OPERATIONS:FINANCINGS","INVESTMENTS:BANK_FIXED_INCOMES","INVESTMENTS:FUNDS"],"parentOrganizationName":"",`+
			`"parentOrganizationId":"%s","organizationName":"BANCO COMUM %d S.A.","organizationId":"%s"},`, code, code, code, uuid(), code, uuid())
	}
	list[len(list)-1] = ']'
	return list
}
