package integration

import (
	"net/http"
	"strings"
	"testing"
)

// The admin API shows what the inbox holds, and nothing of what reports say.
func TestAdminAPI(t *testing.T) {
	t.Setenv("TEST_SECRET_KEY", testSecret)
	g := start(t, site)
	body := `{"productName":"pf_credit_card","productReportId":"report-1","links":[{"linkId":"link-1","consents":[{"consentId":"consent-1"}]}],` +
		`"data":{"personalTaxId":"` + testCPF + `","name":"Maria da Silva"}}`
	if a := g.report(body); a.status != 200 {
		t.Fatalf("got %d %s, want the report taken", a.status, a.body)
	}
	ask := func(path string, status int, want string) string {
		t.Helper()
		a := g.do("GET", g.url("admin", path), "")
		if a.status != status || !strings.Contains(a.body, want) || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d %s, want %d and %s", path, a.status, a.body, status, want)
		}
		wantNowhere(t, path, a.body, testCPF, "Maria", testSecret)
		return a.body
	}
	var list string
	g.eventually("the delivery in the record", func() bool {
		list = g.do("GET", g.url("admin", "/klavi/reports?consent=consent-1"), "").body
		return strings.Contains(list, `"state":"delivered"`)
	})
	wantNowhere(t, "the list", list, testCPF, "Maria")
	_, rest, _ := strings.Cut(list, `"uid":"`)
	uid, _, _ := strings.Cut(rest, `"`)
	record := ask("/klavi/reports/"+uid, http.StatusOK, `"report_id":"report-1"`)
	if !strings.Contains(record, `"attempts":[{`) || !strings.Contains(record, `"route":"127.0.0.1`) {
		t.Errorf("got %s, want where it went", record)
	}
	ask("/klavi/reports?state=dead", http.StatusOK, `{"reports":[]}`)
	ask("/klavi/routes", http.StatusOK, `"inbox":{"waiting":0,"dead":0,`)
	ask("/klavi/reports/nobody", http.StatusNotFound, `{"error":"no report has this uid`)
	ask("/klavi/reports?sate=dead", http.StatusBadRequest, `there is account, after, consent,`)
	ask("/klavi/reports?account=other", http.StatusNotFound, "there is that of default")
	if a := g.do("DELETE", g.url("admin", "/klavi/reports/"+uid), ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("got %d %s for DELETE, want that nothing can be changed", a.status, a.body)
	}
	if err := g.load(site); err != nil {
		t.Fatal(err)
	}
	ask("/klavi/reports/"+uid, http.StatusOK, `"report_id":"report-1"`)
	wantNowhere(t, "the log", readFile(t, g.logs), testCPF, "Maria")
}
