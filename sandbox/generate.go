package sandbox

import (
	"io"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// header is what stands first in a report (docs.klavi.ai/connect/common-format). The key of a business's tax id is inferred.
type header struct {
	Code              int          `json:"code"`
	Message           string       `json:"message"`
	RequestID         string       `json:"requestId"`
	ProductName       string       `json:"productName"`
	ProductVersion    string       `json:"productVersion"`
	ProductReportID   string       `json:"productReportId"`
	ProductReportTime string       `json:"productReportTime"`
	EnquiryCpf        string       `json:"enquiryCpf,omitempty"`
	EnquiryCnpj       string       `json:"enquiryCnpj,omitempty"`
	Links             []reportLink `json:"links"`
}

type reportLink struct {
	LinkID          string          `json:"linkId"`
	InstitutionCode string          `json:"institutionCode"`
	Consents        []reportConsent `json:"consents"`
}

type reportConsent struct {
	ConsentID   string                      `json:"consentId"`
	Permissions map[string]reportPermission `json:"permissions"`
}

type reportPermission struct {
	PermissionsGranted bool     `json:"permissionsGranted"`
	AccountIDs         []string `json:"accountIds"`
}

// report is all that a report's bytes follow from: opened twice, it reads the same, so that a large one is signed and sent
// without ever being held in memory.
type report struct {
	header
	taxID        string
	seed         uint64
	size         int64
	externalInfo jsontext.Value
	members      []byte // of a fixture: what stands between header and externalInfo
	headerLast   bool
}

func (r *report) addConsent(con *consent) {
	granted := make(map[string]reportPermission)
	for _, p := range permissions {
		granted[p] = reportPermission{true, []string{accountNumber(con.personal, con.institution)}}
	}
	node := reportConsent{con.id, granted}
	for i := range r.Links {
		if r.Links[i].LinkID == con.link.id && r.Links[i].InstitutionCode == con.institution {
			r.Links[i].Consents = append(r.Links[i].Consents, node)
			return
		}
	}
	r.Links = append(r.Links, reportLink{con.link.id, con.institution, []reportConsent{node}})
}

func (r *report) institution() string {
	if len(r.Links) == 0 {
		return ""
	}
	return r.Links[0].InstitutionCode
}

// noData says that a report consists of its header alone.
func (r *report) noData() bool { return r.Code >= 5000 }

// open begins the report's bytes.
func (r *report) open() io.Reader {
	head, err := json.Marshal(r.header, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		panic("sandbox: encoding a report: " + err.Error())
	}
	members, info := string(head[1:len(head)-1]), string(r.externalInfo)
	before, after := concat("{", members, ","), concat(`,"externalInfo":`, info, "}")
	if r.headerLast {
		before, after = []byte("{"), concat(",", members, `,"externalInfo":`, info, "}")
	}
	rr := &reportReader{size: r.size}
	if r.noData() {
		rr.pending, rr.finished = concat("{", members, `,"externalInfo":`, info, "}"), true
		return rr
	}
	if r.members != nil {
		rr.pending, rr.finished = slices.Concat(before, r.members, after), true
		return rr
	}
	at, _ := time.Parse(reportTime, r.ProductReportTime)
	rr.shape = shapeOf(r.ProductName)
	rr.holder = newHolder(r.seed, r.taxID, r.institution(), at, r.size)
	rr.pending = rr.shape.open(before, rr.holder)
	rr.tail = append([]byte(rr.shape.close), after...)
	rr.sent = int64(len(rr.pending))
	return rr
}

func concat(parts ...string) []byte { return []byte(strings.Join(parts, "")) }

// reportReader makes records until the report has its size.
type reportReader struct {
	shape    shape
	holder   *holder
	size     int64
	sent     int64 // bytes made so far
	records  int
	tail     []byte
	pending  []byte
	buffer   []byte
	finished bool
}

const chunk = 32 << 10

func (r *reportReader) Read(p []byte) (int, error) {
	if len(r.pending) == 0 {
		if r.finished {
			return 0, io.EOF
		}
		r.fill()
	}
	n := copy(p, r.pending)
	r.pending = r.pending[n:]
	return n, nil
}

func (r *reportReader) fill() {
	b := r.buffer[:0]
	for len(b) < chunk {
		if r.records > 0 && r.sent+int64(len(b)+len(r.tail)) >= r.size {
			b = append(b, r.tail...)
			r.finished = true
			break
		}
		if r.records > 0 {
			b = append(b, ',')
		}
		b = r.shape.record(b, r.holder, r.records)
		r.records++
	}
	r.sent += int64(len(b))
	r.buffer, r.pending = b, b
}
