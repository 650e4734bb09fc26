// Adders ($alu) in FAx1 of ASAP7, whose outputs are inverted. Polarity of the carry
// alternates, so that it passes one cell a bit.
//
// SEGMENT: bits of a segment. Each segment adds as if nothing came in, and is incremented when
// something does. By default there is one, a ripple-carry adder: the smallest and slowest.
`ifndef SEGMENT
`define SEGMENT 1024
`endif

(* techmap_celltype = "$alu" *)
module alu_asap7 (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  parameter _TECHMAP_CONSTMSK_CI_ = 0;
  parameter _TECHMAP_CONSTVAL_CI_ = 0;
  (* force_downto *)
  input [A_WIDTH-1:0] A;
  (* force_downto *)
  input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *)
  output [Y_WIDTH-1:0] X, Y, CO;

  (* force_downto *)
  wire [Y_WIDTH-1:0] a, given, b;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_a (.A(A), .Y(a));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_b (.A(B), .Y(given));
  assign b = given ^ {Y_WIDTH{BI}};
  assign X = a ^ b;

  // In a segment: sum without what comes into it, and carry out of the bit, at even places
  // inverted. `ones`: all sums from the segment's first to this one are 1, so that a carry that
  // comes in goes through. `into`: that carry.
  wire [Y_WIDTH-1:0] own, carry, ones, into;
  genvar i;
  generate
    for (i = 0; i < Y_WIDTH; i = i + 1) begin : place
      localparam N = i % `SEGMENT;
      wire out = N % 2 ? carry[i] : ~carry[i];
      if (N == 0 && (i > 0 || (_TECHMAP_CONSTMSK_CI_ && !_TECHMAP_CONSTVAL_CI_))) begin
        wire sum_n;
        FAx1_ASAP7_75t_R add (.A(a[i]), .B(b[i]), .CI(1'b0), .CON(carry[i]), .SN(sum_n));
        assign own[i] = ~sum_n;
      end else if (N % 2) begin
        FAx1_ASAP7_75t_R add (
          .A(~a[i]), .B(~b[i]), .CI(carry[i-1]), .CON(carry[i]), .SN(own[i])
        );
      end else begin
        wire c = i == 0 ? CI : carry[i-(i>0)];
        wire sum_n;
        FAx1_ASAP7_75t_R add (.A(a[i]), .B(b[i]), .CI(c), .CON(carry[i]), .SN(sum_n));
        assign own[i] = ~sum_n;
      end
      if (i < `SEGMENT) begin
        assign into[i] = 1'b0;
        assign ones[i] = 1'b0;
        assign Y[i] = own[i];
        assign CO[i] = out;
      end else begin
        if (N == 0) begin
          assign into[i] = CO[i-1];
          assign ones[i] = own[i];
          assign Y[i] = own[i] ^ into[i];
        end else begin
          assign into[i] = into[i-1];
          assign ones[i] = ones[i-1] & own[i];
          assign Y[i] = own[i] ^ (into[i] & ones[i-1]);
        end
        assign CO[i] = out | (into[i] & ones[i]);
      end
    end
  endgenerate
endmodule
