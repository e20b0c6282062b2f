package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func testReport(t *testing.T, product string, size, seed int64) *report {
	t.Helper()
	tt := newTester(t, Options{Seed: uint64(seed)})
	con, err := tt.s.subject(trigger{})
	if err != nil {
		t.Fatal(err)
	}
	r := tt.s.newReport(product, reportJob{requestID: "r", taxID: testCPF, consents: []*consent{con}})
	r.size = size
	return r
}

func TestReportsOfEveryKind(t *testing.T) {
	for product, key := range map[string]string{
		"pf_checking_account": "checkingAccounts", "pf_savings_account": "savingsAccounts", "pf_categorized_checking_l2": "checkingAccounts",
		"pf_categorized_checking_l3": "checkingAccounts", "pj_categorized_savings_l3": "savingsAccounts", "pf_credit_card": "creditCards",
		"pj_categorized_creditcard_l3": "creditCards", "pf_loans": "loans", "pj_financing": "financing", "pf_invoice_financing": "invoiceFinancing",
		"pf_unarranged_account_overdraft": "unarrangedAccountOverdraft", "pj_bank_fixed_incomes": "bankFixedIncomes", "pf_funds": "funds",
		"pf_treasure_titles": "treasureTitles", "pf_credit_risk": "creditRisk", "pf_balance": "balances", "pf_new_thing": "newThing",
	} {
		for _, size := range []int64{1, 5_000, 200_000} {
			r := testReport(t, product, size, 1)
			b, err := io.ReadAll(r.open())
			if err != nil {
				t.Fatal(err)
			}
			var m map[string]json.RawMessage
			if err := json.Unmarshal(b, &m); err != nil {
				t.Fatalf("%s of %d: %v in %.300s", product, size, err, b)
			}
			if len(m[key]) < 10 {
				t.Errorf("%s: got %d bytes under %s, want data", product, len(m[key]), key)
			}
			if n := int64(len(b)); n < size || n > size+3000 {
				t.Errorf("%s: got %d bytes, want %d", product, n, size)
			}
			if strings.HasPrefix(product, "pj_") != (m["enquiryCnpj"] != nil) || strings.HasPrefix(product, "pf_") != (m["enquiryCpf"] != nil) {
				t.Errorf("%s: got enquiryCpf %s, enquiryCnpj %s", product, m["enquiryCpf"], m["enquiryCnpj"])
			}
		}
	}
}

func TestReportReadsTheSameEachTime(t *testing.T) {
	r := testReport(t, "pf_categorized_checking_l3", 100_000, 7)
	a, _ := io.ReadAll(r.open())
	b, err := io.ReadAll(iotest.OneByteReader(r.open()))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("got other bytes (%v), want the same", err)
	}
	data := func(b []byte) string {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(b, &m); err != nil {
			t.Fatal(err)
		}
		return string(m["creditRisk"])
	}
	one, _ := io.ReadAll(testReport(t, "pf_credit_risk", 3000, 7).open())
	two, _ := io.ReadAll(testReport(t, "pf_credit_risk", 3000, 7).open())
	other, _ := io.ReadAll(testReport(t, "pf_credit_risk", 3000, 8).open())
	if data(one) != data(two) || data(one) == data(other) {
		t.Error("got data that does not follow the seed")
	}
}

func TestHeaderLast(t *testing.T) {
	r := testReport(t, "pf_loans", 5000, 1)
	r.headerLast = true
	b, _ := io.ReadAll(r.open())
	if !json.Valid(b) || !bytes.HasPrefix(b, []byte(`{"loans":[`)) || !bytes.Contains(b[len(b)-1500:], []byte(`"productName":"pf_loans"`)) {
		t.Errorf("got %.60s ... %s, want the header last", b, b[len(b)-60:])
	}
}

func TestFixtures(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pf_loans.json", `{"code":204,"mine":[1, 2],"links":[],"requestId":"not this","deep":{"b":1,"a":2},"externalInfo":{}}`)
	sk := newSink()
	tt := newTester(t, Options{Fixtures: dir, ReportsURL: "http://console.test/", Transport: sk})
	tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans","size":"1MB"}`, 202)
	tt.settled()
	body := string(<-sk.bodies)
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	if m["code"] != 204.0 || m["requestId"] == "not this" || len(m["links"].([]any)) != 1 || !strings.Contains(body, `"mine":[1, 2],"deep":{"b":1,"a":2},"externalInfo":{}}`) {
		t.Errorf("got %s, want the fixture's data in the sandbox's header", body)
	}
	tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_funds"}`, 202)
	tt.settled()
	if body := string(<-sk.bodies); !strings.Contains(body, `"funds":[`) {
		t.Errorf("got %s, want generated data without a fixture", body)
	}
	write("pf_loans.json", `{"mine":`)
	tt.call("POST", "/_sandbox/trigger", "", `{"product":"pf_loans"}`, 202)
	tt.settled()
	if body := string(<-sk.bodies); !strings.Contains(body, `"code":5000`) {
		t.Errorf("got %s, want code 5000 for a broken fixture", body)
	}
	for name, text := range map[string]string{
		"pf_loans.json": `[]`, "pf_funds.json": `{"code":"x","a":1}`, "pf_balance.json": `{"code":200}`, "loans.json": `{"a":1}`, "pf_x.json": `{"a":1}{}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(Options{Fixtures: dir}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s %s: got %v, want an error that names it", name, text, err)
		}
	}
	if _, err := New(Options{Fixtures: t.TempDir()}); err == nil {
		t.Error("an empty directory: got no error")
	}
}

func BenchmarkReport(b *testing.B) {
	s, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	con, _ := s.subject(trigger{})
	r := s.newReport("pf_categorized_checking_l3", reportJob{taxID: testCPF, consents: []*consent{con}})
	r.size = 20_000_000
	b.SetBytes(r.size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.Copy(io.Discard, r.open()); err != nil {
			b.Fatal(err)
		}
	}
}
