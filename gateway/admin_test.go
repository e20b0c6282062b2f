package gateway

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-klavi/caddy-klavi/inbox"
)

const (
	adminBody = `{"personalTaxId":"52998224725","name":"Maria da Silva"}`
	adminMeta = "meta of the deliverer"
)

// askAdmin asks the endpoints as Caddy's admin API does.
func askAdmin(t *testing.T, method, target string) (status int, body string) {
	t.Helper()
	mux := http.NewServeMux()
	for _, route := range new(adminAPI).Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			err := route.Handler.ServeHTTP(w, r)
			if err == nil {
				return
			}
			var refused caddy.APIError
			if !errors.As(err, &refused) {
				t.Errorf("%s: got the error %v, want one with a status", target, err)
			}
			w.WriteHeader(refused.HTTPStatus)
			_, _ = w.Write([]byte(refused.Err.Error()))
		})
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	for _, secret := range []string{"52998224725", "Maria", adminMeta, "personalTaxId"} {
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: got %q in %s, want metadata only", target, secret, w.Body)
		}
	}
	if is := w.Header().Get("Content-Type") == "application/json"; is != (w.Code == http.StatusOK) {
		t.Errorf("%s: got %d as %q", target, w.Code, w.Header().Get("Content-Type"))
	}
	return w.Code, w.Body.String()
}

// adminRefuses asks for what must be refused, for that reason.
func adminRefuses(t *testing.T, method, target string, status int, reason string) {
	t.Helper()
	if got, body := askAdmin(t, method, target); got != status || !strings.Contains(body, reason) {
		t.Errorf("%s %s: got %d and %s, want %d and %q", method, target, got, body, status, reason)
	}
}

// startInbox opens an inbox for an account, as a config does.
func startInbox(t *testing.T, account string, r *fakeReports) *keeper {
	t.Helper()
	k := newKeeper(t, account, t.TempDir())
	c := newConfig(r, nil)
	if err := k.start(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.stop(c)
		giveBack(t, k)
	})
	if _, err := k.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

// keepBody stores a report with a body to be found, and returns its uid.
func keepBody(t *testing.T, k *keeper, id, subject string) string {
	t.Helper()
	store, err := k.get()
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(adminBody + id)
	if _, err := d.Write(body); err != nil {
		t.Fatal(err)
	}
	receipt, err := d.Commit(t.Context(), inbox.Head{
		Kind: inbox.KindReport, Subjects: []string{subject}, ReportID: id, Received: time.Now(), RequestID: "request-" + id,
		LinkIDs: []string{"link-" + id}, ConsentIDs: []string{"consent-" + id}, EventIDs: []string{"event-" + id}, Meta: []byte(adminMeta),
	}, sha256.Sum256(body))
	if err != nil {
		t.Fatal(err)
	}
	return receipt.UID
}

// listed returns the ids of the reports of an answer, and where the next page begins.
func listed(t *testing.T, target string) (ids, after string) {
	t.Helper()
	status, body := askAdmin(t, "GET", target)
	var list struct {
		Reports []inbox.Record `json:"reports"`
		After   string         `json:"after"`
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK || list.Reports == nil {
		t.Fatalf("%s: got %d, %v and %s, want a list", target, status, err, body)
	}
	var all []string
	for _, r := range list.Reports {
		all = append(all, r.ReportID)
	}
	return strings.Join(all, " "), list.After
}

func TestAdminReports(t *testing.T) {
	r := &fakeReports{route: "it"}
	k := startInbox(t, "admin", r)
	if ids, after := listed(t, "/klavi/reports"); ids != "" || after != "" {
		t.Errorf("got %q and %q of an empty inbox, want nothing", ids, after)
	}
	store, _ := k.get()
	if err := store.Pause(t.Context(), "it", "ann"); err != nil {
		t.Fatal(err)
	}
	uid := keepBody(t, k, "1", "pf_loans")
	keepBody(t, k, "2", "pf_credit_card")
	keepBody(t, k, "3", "pf_loans")
	if _, err := store.Drop(t.Context(), inbox.Filter{ReportID: "3"}, "ann", "OPS-1", nil); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"": "1 2 3", "?state=waiting": "1 2", "?state=dropped": "3", "?type=pf_l*": "1 3", "?type=pf_credit_card": "2", "?route=it": "1 2",
		"?route=other": "", "?report=2": "2", "?request=request-2": "2", "?link=link-3": "3", "?consent=consent-1": "1", "?event=event-2": "2",
		"?type=pf_loans&state=waiting": "1", "?account=admin&limit=1000": "1 2 3", "?after=" + uid: "2 3",
	} {
		if got, after := listed(t, "/klavi/reports"+query); got != want || after != "" {
			t.Errorf("%s: got %q, and more after %q, want %q", query, got, after, want)
		}
	}
	// Page by page.
	query, got := "?limit=1", ""
	for range 3 {
		ids, after := listed(t, "/klavi/reports"+query)
		got += ids
		query = "?limit=1&after=" + after
	}
	if got != "123" || query != "?limit=1&after=" {
		t.Errorf("got %s, and then %s, want three pages, and nothing after the last", got, query)
	}

	const reports = "/klavi/reports"
	for query, reason := range map[string]string{
		"?sate=dead":             "there is account, after, consent, event, limit, link, report, request, route, state, type",
		"?52998224725=x":         "not known here",
		"?state=lost":            `"lost" is no state: there is waiting, undeliverable, delivered`,
		"?state=529.982.247-25":  "is no state",
		"?consent=":              "consent is empty",
		"?type=a&type=b":         "type stands in the query twice",
		"?limit=0":               "limit is not a number from 1 to 1000",
		"?limit=1001":            "limit is not a number from 1 to 1000",
		"?limit=many":            "limit is not a number from 1 to 1000",
		"?after=nobody":          "after is not the uid",
		"?type=%zz":              "the query cannot be read",
		"?uid=" + uid:            "not known here",
		"?state=waiting;state=a": "the query cannot be read",
	} {
		adminRefuses(t, "GET", reports+query, http.StatusBadRequest, reason)
	}
	adminRefuses(t, "GET", reports+"?account=nobody", http.StatusNotFound, "there is that of admin")
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{reports, reports + "/" + uid, "/klavi/routes"} {
			adminRefuses(t, method, path, http.StatusMethodNotAllowed, "can only be read")
		}
	}
	adminRefuses(t, "GET", "/klavi/", http.StatusNotFound, "there are /klavi/reports, /klavi/reports/<uid> and /klavi/routes")
	adminRefuses(t, "GET", "/klavi/bodies", http.StatusNotFound, "there are")
	if r.got.Load() != 0 {
		t.Errorf("got %d deliveries, want none: the route is paused", r.got.Load())
	}
}

func TestAdminReport(t *testing.T) {
	r := &fakeReports{route: "it"}
	k := startInbox(t, "admin", r)
	uid := keepBody(t, k, "1", "pf_loans")
	eventually(t, "an attempt", func() bool {
		_, body := askAdmin(t, "GET", "/klavi/reports/"+uid)
		return strings.Contains(body, `"attempts":[{`)
	})
	store, _ := k.get()
	if _, err := store.Drop(t.Context(), inbox.Filter{UID: uid}, "ann", "OPS-1", nil); err != nil {
		t.Fatal(err)
	}
	status, body := askAdmin(t, "GET", "/klavi/reports/"+uid+"?account=admin")
	var record inbox.Record
	if err := json.Unmarshal([]byte(body), &record); err != nil || status != http.StatusOK {
		t.Fatalf("got %d, %v and %s, want a record", status, err, body)
	}
	if record.UID != uid || record.State != inbox.Dropped || len(record.Deliveries) != 1 || len(record.Attempts) == 0 ||
		len(record.Actions) != 1 || record.Actions[0].Why != "OPS-1" {
		t.Errorf("got %s, want deliveries, attempts and actions", body)
	}
	for _, path := range []string{"nobody", "", uid + "/body", "52998224725"} {
		adminRefuses(t, "GET", "/klavi/reports/"+path, http.StatusNotFound, "no report has this uid")
	}
	adminRefuses(t, "GET", "/klavi/reports/"+uid+"?state=dead", http.StatusBadRequest, "there is account")
}

func TestAdminRoutes(t *testing.T) {
	k := startInbox(t, "admin", &fakeReports{route: "it"})
	store, _ := k.get()
	if err := store.Pause(t.Context(), "it", "ann"); err != nil {
		t.Fatal(err)
	}
	keepBody(t, k, "1", "pf_loans")
	status, body := askAdmin(t, "GET", "/klavi/routes")
	var list routeList
	if err := json.Unmarshal([]byte(body), &list); err != nil || status != http.StatusOK {
		t.Fatalf("got %d, %v and %s, want the routes", status, err, body)
	}
	if len(list.Routes) != 1 || list.Routes[0].Name != "it" || list.Routes[0].Waiting != 1 || list.Routes[0].PausedBy != "ann" {
		t.Errorf("got %+v, want the route with what waits", list.Routes)
	}
	if list.Inbox.Waiting != 1 || list.Inbox.Bytes == 0 || !strings.Contains(body, `"quarantined_bytes":0`) {
		t.Errorf("got %s, want what the inbox holds", body)
	}
	adminRefuses(t, "GET", "/klavi/routes?route=it", http.StatusBadRequest, "there is account")
}

func TestAdminAccounts(t *testing.T) {
	const none = "no inbox is in use"
	adminRefuses(t, "GET", "/klavi/reports", http.StatusNotFound, none)

	// One that was never started is not in use, as with caddy validate.
	checked := newKeeper(t, "checked", t.TempDir())
	defer giveBack(t, checked)
	adminRefuses(t, "GET", "/klavi/routes", http.StatusNotFound, none)

	bank, shop := startInbox(t, "bank", &fakeReports{route: "it"}), startInbox(t, "shop", &fakeReports{route: "it"})
	uid := keepBody(t, bank, "of-bank", "pf_loans")
	keepBody(t, shop, "of-shop", "pf_loans")
	for _, path := range []string{"/klavi/reports", "/klavi/reports/" + uid, "/klavi/routes"} {
		adminRefuses(t, "GET", path, http.StatusBadRequest, "?account=<name>: there is bank, shop")
		adminRefuses(t, "GET", path+"?account=checked", http.StatusNotFound, "there is that of bank, shop")
	}
	if ids, _ := listed(t, "/klavi/reports?account=shop"); ids != "of-shop" {
		t.Errorf("got %q, want the report of shop", ids)
	}
	adminRefuses(t, "GET", "/klavi/reports/"+uid+"?account=shop", http.StatusNotFound, "no report has this uid")

	// While a reload moves an inbox, the new one is meant.
	moved := startInbox(t, "shop", &fakeReports{route: "it"})
	keepBody(t, moved, "moved", "pf_loans")
	if ids, _ := listed(t, "/klavi/reports?account=shop"); ids != "moved" {
		t.Errorf("got %q, want the report of the newer inbox", ids)
	}
}

// One that cannot be opened says so.
func TestAdminNotOpen(t *testing.T) {
	dir := t.TempDir()
	other := newKeeper(t, "owner", dir)
	c := newConfig(&fakeReports{route: "it"}, nil)
	if err := other.start(c); err != nil {
		t.Fatal(err)
	}
	if _, err := other.wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	other.stop(c)
	defer giveBack(t, other)

	k := newKeeper(t, "late", dir)
	late := newConfig(&fakeReports{route: "it"}, nil)
	if err := k.start(late); err != nil {
		t.Fatal(err)
	}
	defer giveBack(t, k)
	defer k.stop(late)
	eventually(t, "that it is locked", func() bool { _, err := k.get(); return errors.Is(err, inbox.ErrLocked) })
	for _, path := range []string{"/klavi/reports", "/klavi/reports/a", "/klavi/routes"} {
		adminRefuses(t, "GET", path, http.StatusServiceUnavailable, "inbox: locked")
	}
}
