package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const reportSize = 32 << 20

// report is a report of reportSize bytes. All have the same middle.
type report struct{ head, tail string }

var reportMiddle = bytes.Repeat([]byte(`{"transactionDate":"2024-05-01","transactionAmount":{"amount":"100.0000","currency":"BRL"},"type":"PIX"},`), 1<<10)

func newReport(id int) report {
	return report{
		head: fmt.Sprintf(`{"code":200,"message":"OK","requestId":"%d","productName":"pf_categorized_checking_l3","productReportId":"%d",`+
			`"checkingAccounts":[{"transactionDetails":[`, id, id),
		tail: `{}]}],"externalInfo":{}}`,
	}
}

func (r report) reader() io.Reader {
	parts := []io.Reader{strings.NewReader(r.head)}
	for range r.middles() {
		parts = append(parts, bytes.NewReader(reportMiddle))
	}
	return io.MultiReader(append(parts, strings.NewReader(r.tail))...)
}

func (report) middles() int { return reportSize / len(reportMiddle) }

func (r report) size() int64 {
	return int64(len(r.head) + r.middles()*len(reportMiddle) + len(r.tail))
}

// signature is that of Klavi (docs.klavi.ai/connect/security).
func (r report) signature() (string, error) {
	mac := hmac.New(sha256.New, []byte(secretKey))
	_, err := io.Copy(mac, r.reader())
	return hex.EncodeToString(mac.Sum(nil)), err
}

// deliver sends the report as Klavi does.
func (r report) deliver(ctx context.Context, url string) error {
	signature, err := r.signature()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, r.reader())
	if err != nil {
		return err
	}
	req.ContentLength = r.size()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(klavi.SignatureHeader, signature)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		return fmt.Errorf("a report was answered %s: %s", res.Status, text)
	}
	return nil
}

// measureReports has the gateway take reports of 32 MB, and writes how far its
// resident memory rose above what it was before.
func (h *house) measureReports(ctx context.Context, w io.Writer, gateway *process) error {
	fmt.Fprint(w, "\n| reports of 32 MiB, direct | took, ms | memory at most, MiB | of that beyond what it had before |\n|---|---|---|---|\n")
	id := 0
	for _, atOnce := range []int{1, 8} {
		before, err := gateway.memory("VmRSS")
		if err != nil {
			return err
		}
		if err := gateway.resetPeak(); err != nil {
			return err
		}
		began := time.Now()
		failures := make([]error, atOnce)
		var wg sync.WaitGroup
		for i := range failures {
			id++
			wg.Go(func() { failures[i] = newReport(id).deliver(ctx, "http://"+h.names["reports"]+"/klavi/reports") })
		}
		wg.Wait()
		took := time.Since(began)
		peak, err := gateway.memory("VmHWM")
		if err := errors.Join(append(failures, err)...); err != nil {
			return err
		}
		fmt.Fprintf(w, "| %d at once | %d | %.1f | %.1f |\n", atOnce, took.Milliseconds(), mebibytes(peak), mebibytes(peak-before))
	}
	return nil
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }
