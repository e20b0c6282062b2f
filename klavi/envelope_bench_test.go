package klavi

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// statement returns a report of the given size at least, in the form of docs.klavi.ai/connect/zJgr-v1. All of it but
// the header is the transactions of one account.
func statement(size int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"code":200,"message":"OK","requestId":"112334","productName":"pf_categorized_checking_l3","productVersion":"V1",` +
		`"productReportId":"4b2c1648-231f-11eb-97c4-f45c899f4587","productReportTime":"2019-12-23T06:10:43","enquiryCpf":"25872252137",` +
		`"links":[{"linkId":"gPuKXrCJU05J4k","institutionCode":"033","consents":[{"consentId":"f55c899f-11eb-231f-97c4-4b2c16484587",` +
		`"permissions":{"REGISTRATION_ALL":{"permissionsGranted":true,"accountIds":["123456"]}}}]}],` +
		`"checkingAccounts":[{"brandName":"Organização A","bacenName":"ORGANIZAÇÃO A S.A.","compeCode":"001","companyCnpj":"21128159000166",` +
		`"branchCode":"6272","number":"94088392","checkDigit":"4","subtype":"INDIVIDUAL","civilName":"Juan Kaique Cláudio Fernandes",` +
		`"balances":{"availableAmount":{"amount":"1000.0400","currency":"BRL"},"blockedAmount":{"amount":"0.0000","currency":"BRL"},` +
		`"automaticallyInvestedAmount":{"amount":"0.0000","currency":"BRL"}},"transactionDetails":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"transactionDate":"2024-%02d-%02d","transactionDateTime":"2024-%02d-%02dT12:29:03.374Z",`+
			`"transactionId":"TXpRMU9UQTROMWhZV2xSU1FUazJSMDl%08d","completedAuthorisedPaymentType":"TRANSACAO_EFETIVADA","creditDebitType":"DEBITO",`+
			`"transactionAmount":{"amount":"%d.%02d00","currency":"BRL"},"transactionName":"Transferência Enviada|José da Silva",`+
			`"partieCnpjCpf":"43908445778","partiePersonType":"PESSOA_NATURAL","partieCompeCode":"001","partieBranchCode":"6272",`+
			`"partieNumber":"67890854360","partieCheckDigit":"4","postTransactionBalance":"%d.0400","type":"PIX","category":"Transferências",`+
			`"subcategory":"Transferência enviada","thirdCategory":"PIX","fAll":1,"fAllMonth":%d,"fAllCmonth":0,"settlementType":""}`,
			i%12+1, i%28+1, i%12+1, i%28+1, i, i%5000, i%100, i%9000, i%2)
	}
	b.WriteString(`]}],"externalInfo":{"myTraceId":"yourTraceId-1","myUUID":"yourUUID-1"}}`)
	return b.Bytes()
}

// onlyReader hides from its reader what else it could be.
type onlyReader struct{ io.Reader }

func BenchmarkReadEnvelope(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20, 32 << 20} {
		body := statement(size)
		for _, from := range []struct {
			name string
			read func() io.Reader
		}{
			{"memory", func() io.Reader { return bytes.NewBuffer(body) }},
			{"stream", func() io.Reader { return onlyReader{bytes.NewReader(body)} }},
		} {
			b.Run(fmt.Sprintf("%s/%dKiB", from.name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := ReadEnvelope(from.read()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	body, key := statement(1<<20), []byte("0123456789abcdef0123456789abcdef")
	sig, err := ParseSignature([]string{Sign(key, body)})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		v, err := NewVerifier(key)
		if err != nil {
			b.Fatal(err)
		}
		v.Write(body)
		if _, ok := v.Match(sig); !ok {
			b.Fatal("got no match, want one")
		}
	}
}

func BenchmarkCheckAndRead(b *testing.B) {
	body, key := statement(1<<20), []byte("0123456789abcdef0123456789abcdef")
	sig, err := ParseSignature([]string{Sign(key, body)})
	if err != nil {
		b.Fatal(err)
	}
	for _, from := range []struct {
		name string
		read func() io.Reader
	}{
		{"memory", func() io.Reader { return bytes.NewBuffer(body) }},
		{"stream", func() io.Reader { return onlyReader{bytes.NewReader(body)} }},
	} {
		b.Run(from.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				v, err := NewVerifier(key)
				if err != nil {
					b.Fatal(err)
				}
				v.Write(body)
				if _, ok := v.Match(sig); !ok {
					b.Fatal("got no match, want one")
				}
				if _, err := ReadEnvelope(from.read()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
